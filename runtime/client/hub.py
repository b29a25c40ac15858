"""Model files from a Hugging Face hub, in the cache that all Hugging Face tools share.

huggingface_hub sends the requests, so HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE apply. This module
adds two things that its download lacks: an interrupted download resumes, also in another process, and a file
enters the cache only if its SHA-256 is the one that the hub states.

The layout of the cache is documented: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from binhdan.runtime.errors import (
    BadFormatError,
    FileReadError,
    InvalidArgumentError,
    ModelNotFoundError,
    UnsupportedError,
)

_ID = re.compile(r"(?P<repo>[\w][\w.-]*/[\w][\w.-]*)(:(?P<wanted>.+))?")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
# Quantizations to prefer when the user names none: good quality for the size first, then speed.
_PREFERRED = ("Q4_K_M", "Q4_0", "Q5_K_M", "Q8_0", "Q6_K", "Q4_K_S")


@dataclass(frozen=True, slots=True)
class _RemoteFile:
    name: str
    size: int
    sha256: str | None  # for files in large file storage, such as model files
    git_id: str | None  # the git blob id, for all other files


def is_id(name: str) -> bool:
    """True for "org/name", "org/name:file" and "org/name:quantization", false for a path."""
    match = _ID.fullmatch(name)
    return match is not None and (match["wanted"] is not None or not name.lower().endswith(".gguf"))


def pull(name: str) -> Path:
    """Downloads a model, all parts of a split one, and returns the path of its (first) file.

    Raises ModelNotFoundError, InvalidArgumentError when several files match, FileReadError when the network
    fails, BadFormatError when a checksum differs.
    """
    repo, wanted = _parse(name)
    with _hub_errors(repo):
        from huggingface_hub import HfApi
        from huggingface_hub.errors import OfflineModeIsEnabled

        try:
            info = HfApi().model_info(repo, files_metadata=True)
        except OfflineModeIsEnabled:
            return find(name)
        commit = str(info.sha)
        files = {
            sibling.rfilename: _RemoteFile(
                sibling.rfilename,
                sibling.size or 0,
                sibling.lfs.sha256 if sibling.lfs else None,
                sibling.blob_id,
            )
            for sibling in info.siblings or []
        }
        parts = choose(files, repo, wanted)
        first, *_ = [_fetch(repo, commit, files[part]) for part in parts]
        return first


def find(name: str) -> Path:
    """The path of a model that `pull` downloaded before. Raises ModelNotFoundError."""
    repo, wanted = _parse(name)
    folder = _cache_folder(repo)
    try:
        commit = (folder / "refs" / "main").read_text().strip()
    except OSError:
        commit = ""
    snapshot = folder / "snapshots" / commit
    names = {str(path.relative_to(snapshot)) for path in snapshot.rglob("*.gguf")} if commit else set()
    if not names:
        raise ModelNotFoundError(f"{repo} is not in the local cache; download it with: binhdan pull {name}")
    return snapshot / choose(names, repo, wanted)[0]


def choose(names: Iterable[str], repo: str, wanted: str | None) -> list[str]:
    """The files of one model in a repository: one file, or all parts of a split model in order."""
    models = _models(names)
    if not models:
        raise ModelNotFoundError(
            f"{repo} contains no GGUF model file; pull a repository that has one, often named …-GGUF, or "
            "convert a downloaded checkpoint with: binhdan quantize"
        )
    if wanted is not None:
        fits = [title for title, parts in models.items() if wanted in (title, *parts)]
        fits = fits or [title for title in models if _mentions(title, wanted)]
        if not fits:
            raise ModelNotFoundError(f"{repo} has no {wanted}; it contains {', '.join(models)}")
    else:
        fits = list(models)
        preferred = ([title for title in fits if _mentions(title, quant)] for quant in _PREFERRED)
        if len(fits) > 1:
            fits = next((titles for titles in preferred if len(titles) == 1), fits)
    if len(fits) > 1:
        raise InvalidArgumentError(
            f"{repo} has several models; choose one with {repo}:FILE from {', '.join(fits)}"
        )
    return models[fits[0]]


def _parse(name: str) -> tuple[str, str | None]:
    match = _ID.fullmatch(name)
    if match is None:
        raise InvalidArgumentError(f"expected a repository such as org/name or org/name:Q4_K_M, got {name}")
    return match["repo"], match["wanted"]


def _models(names: Iterable[str]) -> dict[str, list[str]]:
    """Title -> files. A split model is one entry; models with missing parts are left out."""
    models: dict[str, list[str]] = {}
    for name in sorted(names):
        if name.lower().endswith(".gguf") and not Path(name).name.lower().startswith("mmproj"):
            models.setdefault(_PART.sub(".gguf", name), []).append(name)
    return {title: parts for title, parts in models.items() if _complete(parts)}


def _complete(parts: list[str]) -> bool:
    match = _PART.search(parts[0])
    return match is None or len(parts) == int(match[2])


def _mentions(title: str, quant: str) -> bool:
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(quant)}(?![A-Za-z0-9_])", title, re.IGNORECASE) is not None


def _require_hub(repo: str) -> None:
    if importlib.util.find_spec("huggingface_hub") is None:
        raise UnsupportedError(f"{repo}: models of a hub need huggingface_hub: pip install 'binhdan[cli]'")


def _cache_folder(repo: str) -> Path:
    """The folder of a repository in the cache, with refs/, snapshots/ and blobs/."""
    _require_hub(repo)
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}"


def _fetch(repo: str, commit: str, file: _RemoteFile) -> Path:
    """Downloads one file into the cache, if it is not there, and checks it."""
    from huggingface_hub import hf_hub_download

    if file.sha256 is not None:
        blobs = _cache_folder(repo) / "blobs"
        if not (blobs / file.sha256).exists():
            _download(repo, commit, file, file.sha256, blobs)
    # The blob is in the cache now, so this adds only the link with the file's name.
    path = Path(hf_hub_download(repo, file.name, revision="main"))
    digest = _sha256(path) if file.sha256 else _git_id(path)
    if digest != (file.sha256 or file.git_id):
        _forget(path)
        raise BadFormatError(
            f"{file.name} in the cache is damaged and was removed; run again: binhdan pull {repo}"
        )
    return path


def _download(repo: str, commit: str, file: _RemoteFile, sha256: str, blobs: Path) -> None:
    """Downloads one file to `blobs`/`sha256`; continues a partial file of an earlier call."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get  # hf_hub_download cannot resume
    from huggingface_hub.utils import WeakFileLock, build_hf_headers  # type: ignore[attr-defined]

    blobs.mkdir(parents=True, exist_ok=True)
    partial = blobs / f"{sha256}.partial"
    with WeakFileLock(blobs / f"{sha256}.lock"), partial.open("ab") as out:
        if out.tell() > file.size:
            out.truncate(0)
        http_get(
            hf_hub_url(repo, file.name, revision=commit),
            out,
            resume_size=out.tell(),
            headers=build_hf_headers(),
            expected_size=file.size or None,
            displayed_filename=file.name,
        )
    digest = _sha256(partial)
    if digest != sha256:
        partial.unlink()
        raise BadFormatError(
            f"the download of {file.name} is damaged: expected SHA-256 {sha256[:16]}…, got {digest[:16]}…; "
            f"download it again"
        )
    os.replace(partial, blobs / sha256)
    (blobs / f"{sha256}.lock").unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _git_id(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _forget(path: Path) -> None:
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@contextmanager
def _hub_errors(repo: str) -> Iterator[None]:
    """Turns exceptions of huggingface_hub and its HTTP library into ours."""
    _require_hub(repo)
    from huggingface_hub import constants
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    try:
        yield
    except (BadFormatError, FileReadError, InvalidArgumentError, ModelNotFoundError):
        raise
    except GatedRepoError as error:
        raise FileReadError(
            f"{repo} is gated: accept its terms on {constants.ENDPOINT} and set HF_TOKEN"
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        raise ModelNotFoundError(
            f"{constants.ENDPOINT} has no repository {repo}, or HF_TOKEN does not allow to read it"
        ) from error
    except Exception as error:  # the HTTP library, which differs between versions of huggingface_hub
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise FileReadError(f"cannot download {repo} from {constants.ENDPOINT}: {reason[0]}") from error
