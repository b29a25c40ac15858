"""`binhdan chat` in a pseudo-terminal, and without a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
import pytest

COMMAND = [sys.executable, "-m", "binhdan", "chat"]
CTRL_C, CTRL_D, BACKSPACE, UP = "\x03", "\x04", "\x7f", "\x1b[A"


class Terminal:
    """A pseudo-terminal that runs the command."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self._state = state
        self.child: Any = pexpect.spawn(
            COMMAND[0],
            [*COMMAND[1:], *arguments],
            env=os.environ | {"TERM": "xterm", "XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1"},
            encoding="utf-8",
            timeout=240,
            dimensions=(24, 200),
        )
        self.child.expect("/help shows the commands")
        self.child.expect(">")

    def type(self, keys: str) -> None:
        self.child.send(keys)

    def say(self, line: str, expected: str) -> None:
        self.type(line + "\r")
        self.see(expected)

    def see(self, expected: str) -> None:
        self.child.expect(expected)

    def leave(self) -> int:
        for _ in range(60):  # a terminal ignores it until the prompt is ready
            self.type(CTRL_D)
            if self.child.expect([pexpect.EOF, pexpect.TIMEOUT], timeout=2) == 0:
                break
        self.child.close()
        return int(self.child.exitstatus)


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    opened = Terminal(tmp_path)
    yield opened
    opened.child.close(force=True)


def test_turns_and_commands(terminal: Terminal, tmp_path: Path) -> None:
    terminal.say("them dau: ha noi", r"hà nội\r\nfirst token")
    terminal.say(f"/save {tmp_path}/a.json", "saved to")
    terminal.say(f"/save {tmp_path}/a.txt", "saved to")
    terminal.say("/reset", "forgot the conversation")
    terminal.say(f"/save {tmp_path}/empty.json", "saved to")
    terminal.say("/save", "needs the name")
    terminal.say("/save /nowhere/x", "there is no folder /nowhere")
    terminal.say("/nonsense", "no command /nonsense")
    terminal.say("/help", "/reset +forget")
    assert terminal.leave() == 0
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == [
        {"role": "user", "content": "them dau: ha noi"},
        {"role": "assistant", "content": "hà nội"},
    ]
    assert (tmp_path / "a.txt").read_text("utf-8") == "user: them dau: ha noi\n\nassistant: hà nội\n"
    assert json.loads((tmp_path / "empty.json").read_text("utf-8")) == []


def test_vietnamese_editing_and_history(terminal: Terminal, tmp_path: Path) -> None:
    # A backspace deletes a whole letter with its diacritics.
    terminal.type("Xin chàơ" + BACKSPACE + "o")
    terminal.say("", "first token")
    terminal.say(f"/save {tmp_path}/a.json", "saved to")
    terminal.type(UP + UP)
    terminal.say("", "first token")
    terminal.say(f"/save {tmp_path}/b.json", "saved to")
    assert terminal.leave() == 0
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))[0]["content"] == "Xin chào"
    assert json.loads((tmp_path / "b.json").read_text("utf-8"))[2]["content"] == "Xin chào"
    history = tmp_path / "binhdan" / "history"
    assert "Xin chào" in history.read_text("utf-8") and history.stat().st_mode & 0o077 == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    terminal = Terminal(
        tmp_path, "--temperature", "3", "--seed", "1"
    )  # nearly random tokens, so long answers
    for number in range(10):  # on a busy machine an answer may end before Ctrl-C
        terminal.type(f"{number} Việt Nam\r")
        terminal.see(r"\?2004l")  # the input is accepted
        terminal.see(r"[^\r\n]{20}")  # the answer has started
        terminal.type(CTRL_C)
        terminal.see(r"first token[^\r\n]*")
        stopped = "(stopped)" in terminal.child.after
        terminal.see(">")
        if stopped:
            break
        terminal.say("/reset", "forgot the conversation")
    assert stopped
    terminal.type("x" + CTRL_C)  # while typing: discards the line
    terminal.see(">")
    terminal.say(f"/save {tmp_path}/a.json", "saved to")
    assert terminal.leave() == 0
    roles = [message["role"] for message in json.loads((tmp_path / "a.json").read_text("utf-8"))]
    assert roles == ["user", "assistant"]


def test_a_full_context_drops_the_oldest_turn(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "--context", "128", "--max-tokens", "24")
    for _ in range(8):
        terminal.type("them dau: ha noi la thu do cua viet nam\r")
        if terminal.child.expect(["forgot the oldest turn", "first token"]) == 0:
            break
    else:
        pytest.fail("the context never filled")
    terminal.see("first token")
    terminal.say("một " * 200, "too long|the prompt has")
    terminal.say("/quit", pexpect.EOF)  # type: ignore[arg-type]
    terminal.child.close()
    assert terminal.child.exitstatus == 0


def test_without_a_terminal(tmp_path: Path) -> None:
    script = "them dau: ha noi\n\n/nonsense\n/reset\nthem dau: viet nam\n"
    done = subprocess.run(COMMAND, input=script.encode(), capture_output=True, timeout=120)
    assert done.returncode == 0 and done.stdout.decode() == "hà nội\nviệt nam\n"
    assert done.stderr == b"binhdan: no command /nonsense; /help shows the commands\n"
