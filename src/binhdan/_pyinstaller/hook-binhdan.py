"""What a program of PyInstaller needs of binhdan beside its Python modules."""

from PyInstaller.utils.hooks import collect_data_files  # type: ignore[import-untyped, import-not-found, unused-ignore]

from binhdan.runtime.ffi import library

binaries = [(str(library().path), "binhdan/lib")]
datas = collect_data_files("binhdan", includes=["include/*.h", "runtime/assets/*", "runtime/server/page/**"])
hiddenimports = ["_cffi_backend"]
