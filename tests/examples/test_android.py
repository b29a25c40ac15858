"""examples/android/: the native methods and Model.java, compiled and run in a desktop JVM."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import binhdan
from binhdan.runtime.client.model import embedded_model

SOURCE = Path(__file__).parents[2] / "examples" / "android" / "binhdan" / "src" / "main"
MAIN = """
import java.io.File;
import java.io.IOException;
import vn.binhdan.Model;

public final class Main {
    static void say(Object value) { // -Xcheck:jni prints, too
        System.out.println("> " + value);
    }

    public static void main(String[] arguments) throws Exception {
        try {
            new Model(new File(arguments[1]), 0);
        } catch (IOException error) {
            say(error.getMessage());
        }
        Model model = new Model(new File(arguments[0]), 1);
        String question = "them dau: ha noi la thu do cua viet nam";
        say(model.ask(question, 64, null));
        say(model.ask(question, 64, text -> text.isEmpty()).length() < 10);
        say(model.ask(question, 64, text -> { model.cancel(); return true; }).length() < 30);
        try {
            model.ask(question, 64, text -> { throw new IllegalStateException("dừng"); });
        } catch (IllegalStateException error) {
            say(error.getMessage());
        }
        try {
            model.ask("dài ".repeat(4000), 64, null);
        } catch (IOException error) {
            say(error.getMessage());
        }
        model.ask(question, 64, text -> { model.close(); return true; });
    }
}
"""

pytestmark = pytest.mark.slow  # starts a Java compiler


def need(program: str, debian: str) -> str:
    found = shutil.which(program)
    if not found:
        pytest.skip(f"no {program}: apt-get install {debian}")
    return found


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, encoding="utf-8", timeout=300
    )


def test_four_calls_from_java(tmp_path: Path) -> None:
    javac, cc = need("javac", "openjdk-17-jdk-headless"), need("cc", "gcc")
    include = Path(javac).resolve().parents[1] / "include"  # jni.h
    package = next(folder for folder in map(Path, binhdan.__path__) if (folder / "include").is_dir())
    built = run(
        *(cc, "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", SOURCE / "cpp/binhdan_jni.c"),
        *(f"-I{include}", f"-I{include}/linux", f"-I{package}/include", f"-L{package}/lib", "-lbinhdan"),
        *(f"-Wl,-rpath,{package}/lib", "-o", tmp_path / "libbinhdan_jni.so"),
    )
    assert built.returncode == 0, built.stderr
    (tmp_path / "Main.java").write_text(MAIN, encoding="utf-8")
    sources = (SOURCE / "java/vn/binhdan/Model.java", tmp_path / "Main.java")
    built = run(javac, "--release", "11", "-Xlint:-options", "-encoding", "UTF-8", "-d", tmp_path, *sources)
    assert built.returncode == 0, built.stderr
    done = run(
        *(need("java", "openjdk-17-jre-headless"), "-Xcheck:jni", "-Dfile.encoding=UTF-8", "-cp", tmp_path),
        *(f"-Djava.library.path={tmp_path}", "Main", embedded_model(), tmp_path / "không có.gguf"),
    )
    said = [line.removeprefix("> ") for line in done.stdout.splitlines() if line.startswith("> ")]
    missing, answer, ended, cancelled, thrown, long, *rest = said
    assert "không có.gguf" in missing
    assert (answer, ended, cancelled) == ("hà nội là thủ đô của việt nam", "true", "true")
    assert thrown == "dừng"
    assert "2048" in long, done
    assert "in native method" not in done.stdout  # of -Xcheck:jni
    assert rest == [] and "IOException" in done.stderr and done.returncode == 1  # closed while it ran
