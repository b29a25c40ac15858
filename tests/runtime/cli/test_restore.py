"""`binhdan restore`: files, pipes and options."""

from __future__ import annotations

import codecs
import subprocess
import sys
import time
from pathlib import Path

import pytest

from binhdan.runtime.client.encodings import decode, encode

BARE = "ha noi la thu do cua viet nam"
MARKED = "hà nội là thủ đô của việt nam"
COMMAND = [sys.executable, "-m", "binhdan", "restore"]


def run(*arguments: str | Path, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], input=data, capture_output=True, timeout=120)


def test_files_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Ha Noi la thu do.\nxin \xff\xfe chao\r\n\n")
    (tmp_path / "b.txt").write_bytes(b"viet nam")
    command = [*COMMAND, "--stats", tmp_path / "a.txt", tmp_path / "b.txt"]
    done = subprocess.run(command, capture_output=True, timeout=120)
    assert done.stdout == "Hà Nội là thủ đô.\n".encode() + b"xin \xff\xfe chao\r\n\n" + "việt nam".encode()
    assert (
        done.returncode == 0
        and "9 syllables in" in done.stderr.decode()
        and "đ for a million" in done.stderr.decode()
    )


def test_an_unknown_board_fails_before_the_work() -> None:
    command = [*COMMAND, "--stats", "--board", "nowhere"]
    done = subprocess.run(command, input=b"viet nam\n", capture_output=True, timeout=120)
    assert done.returncode == 1 and done.stdout == b""
    assert done.stderr.startswith(b"binhdan: unknown board 'nowhere'") and done.stderr.count(b"\n") == 1


def test_a_slow_pipe_is_processed_line_by_line() -> None:
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        for _ in range(2):
            process.stdin.write(BARE.encode() + b"\n")
            process.stdin.flush()
            assert process.stdout.readline().decode() == MARKED + "\n"  # before the next line is written
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_a_closed_output_pipe(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("viet nam\n" * 100_000)
    with subprocess.Popen(
        [*COMMAND, tmp_path / "long.txt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        begin = time.monotonic()
        assert process.wait(timeout=60) == 1 and process.stderr.read() == b""
        assert time.monotonic() - begin < 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.txt"], "nowhere.txt: no such file"),
        (["--style", "both"], "style: expected one of keep, new, old, got 'both'"),
        (["--format", "doc"], "format: expected one of text"),
        (["--model", "m.gguf", "--explain"], "need the n-gram file, no --model"),
        (["--explain", "--teencode"], "expected --explain or --teencode, got both"),
        (["--typing", "x"], "typing: expected one of none, telex, vni, got 'x'"),
        (["/"], "/: expected a file, got a folder"),
    ],
)
def test_errors(arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
    )
    assert (
        done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1 and message in done.stderr
    )


def test_the_model_restores_too(tmp_path: Path) -> None:
    from binhdan.runtime.client.model import embedded_model

    (tmp_path / "a.txt").write_bytes(BARE.encode() + b"\nxin \xff\xfe chao\r\n")
    done = run("--model", embedded_model(), "--threads", "1", tmp_path / "a.txt")
    assert done.returncode == 0 and done.stdout == MARKED.encode() + b"\nxin \xff\xfe chao\r\n"
    assert run("--model", embedded_model(), "--max-concurrent", "0", tmp_path / "a.txt").returncode == 1


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_stays_utf16(tmp_path: Path, encoding: str) -> None:
    mark = codecs.BOM_UTF16_LE if encoding == "utf-16-le" else codecs.BOM_UTF16_BE
    data = mark + f"{BARE}\r\n".encode(encoding)
    wanted = mark + f"{MARKED}\r\n".encode(encoding)
    (tmp_path / "a.txt").write_bytes(data)
    assert run(tmp_path / "a.txt").stdout == wanted
    assert run(data=data).stdout == wanted


def test_the_mark_of_utf8_stays() -> None:
    assert run(data=codecs.BOM_UTF8 + BARE.encode()).stdout == codecs.BOM_UTF8 + MARKED.encode()


def test_binary_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"viet\0nam")
    done = run(tmp_path / "a.bin")
    assert (
        done.returncode == 1
        and done.stdout == b""
        and b"a.bin: text: expected text, found a NUL byte at 4" in done.stderr
    )


def test_the_format_follows_the_extension(tmp_path: Path) -> None:
    text = f'<p title="{BARE}">{BARE}</p>'
    (tmp_path / "a.html").write_text(text)
    wanted = f'<p title="{BARE}">{MARKED}</p>'
    assert run(tmp_path / "a.html").stdout.decode() == wanted
    assert run("--format", "html", data=text.encode()).stdout.decode() == wanted


def test_explain() -> None:
    lines = run("--explain", data=b"toi di hoc\n").stdout.decode().splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["toi\ttôi", "di\tđi", "hoc\thọc"]


def test_a_minimum_confidence_leaves_doubtful_words() -> None:
    assert run("--min-confidence", "0.9", data=b"hoa thuy di hoc").stdout.decode() == "hoa thuy đi học"


def test_encodings(tmp_path: Path) -> None:
    old = tmp_path / "old.txt"
    text = "Cộng hòa xã hội chủ nghĩa Việt Nam\n"
    marked = "Hà Nội là thủ đô của Việt Nam\n"
    bare = "Ha Noi la thu do cua Viet Nam\n"
    old.write_bytes(encode(text, "tcvn3") + bare.encode())
    done = run(old)
    assert done.stdout.decode() == text + marked and done.returncode == 0
    assert b"recognised as tcvn3; the result is UTF-8" in done.stderr and done.stderr.count(b"\n") == 1
    done = run("--to", "tcvn3", old)
    assert decode(done.stdout, "tcvn3") == text + marked
    assert decode(run("--to", "viqr", data=bare.encode()).stdout, "viqr") == marked
    assert run("--from", "vni", data=encode(text, "vni")).stdout.decode() == text
    assert run("--to", "utf-8", data=bare.encode("utf-16")).stdout.decode() == marked
    old.write_bytes(b"x\xff y\nviet nam\n")
    done = run(old)
    assert done.stdout == b"x\xff y\n" + "việt nam\n".encode() and done.returncode == 0
    assert b"lines that are not UTF-8 stay: expected their encoding with --from" in done.stderr
    done = run("--from", "x", data=b"a")
    assert done.returncode == 1 and b"from: expected one of utf-8, utf-16, tcvn3" in done.stderr
    done = run("--to", "vni", data="giá 5 €".encode())
    assert done.returncode == 1 and b"standard input: expected characters of vni" in done.stderr


def test_typing() -> None:
    keys = b"Tooi ddang ddi hocj owr tru7owngf.\n"
    assert run("--typing", "telex", data=b"Tooi ddang ddi hocj").stdout.decode() == "Tôi đang đi học"
    assert b"hocj\t" in run("--typing", "telex", "--explain", data=keys).stdout
    done = run("--teencode", data=b"vk oi, hn ko di hoc dc r")
    assert done.stdout.decode() == "vợ ơi, hôm nay không đi học được rồi"
