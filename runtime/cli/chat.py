"""`binhdan chat`: a conversation in the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import typer

from binhdan.runtime.cli import console
from binhdan.runtime.cli import options as shared
from binhdan.runtime.cli.answers import print_stream, speed
from binhdan.runtime.client.model import Model, load
from binhdan.runtime.errors import BinhdanError, TooLargeError
from binhdan.runtime.options import MAX_TOKENS, GenerationOptions
from binhdan.runtime.prompting.chat import Message

_COMMANDS = (
    ("/reset", "forget the conversation"),
    ("/save FILE", "write the conversation to FILE: JSON if the name ends in .json, else text"),
    ("/help", "show these commands"),
    ("/quit", "end the program, like Ctrl-D"),
)
_KEYS = "Ctrl-C stops an answer. Alt-Enter starts a new line.\n"

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def chat(
    model: shared.Model = None,
    draft: shared.Draft = None,
    system: shared.System = None,
    max_tokens: shared.MaxTokens = MAX_TOKENS,
    temperature: shared.Temperature = 0.0,
    top_k: shared.TopK = 0,
    top_p: shared.TopP = 1.0,
    min_p: shared.MinP = 0.0,
    repetition_penalty: shared.RepetitionPenalty = 1.0,
    seed: shared.Seed = None,
    stop: shared.Stop = None,
    thinking: shared.Thinking = False,
    threads: shared.Threads = None,
    context: shared.Context = None,
) -> None:
    """Chat with a model in the terminal. /help shows the commands."""
    settings = shared.generation(
        stop,
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        thinking=thinking,
    )
    with load(model, threads=threads, context=context, draft=draft) as loaded:
        console.note(f"{loaded.path.name}: /help shows the commands, Ctrl-D ends the program")
        _chat(Conversation(loaded, settings, system), _reader())


class Conversation:
    """The turns of a conversation, and the model and options that produce the next one."""

    def __init__(self, model: Model, options: GenerationOptions, system: str | None = None) -> None:
        self._model = model
        self._options = options
        self._system: list[Message] = [{"role": "system", "content": system}] if system else []
        self.turns: list[Message] = []

    def reply(self, text: str) -> None:
        """Streams the answer to `text`. Ctrl-C keeps the part so far; an error leaves the turns unchanged."""
        self.turns.append({"role": "user", "content": text})
        try:
            self._drop_old_turns()
            stream = self._model.chat([*self._system, *self.turns], stream=True, options=self._options)
        except BaseException:
            self.turns.pop()
            raise
        try:
            print_stream(stream)
        except KeyboardInterrupt:
            stream.close()
        console.write("\n")
        answer = stream.answer()
        console.note(speed(answer))
        self.turns.append({"role": "assistant", "content": answer.text})

    def reset(self) -> None:
        """Removes all turns. The system message remains."""
        self.turns.clear()

    def save(self, file: Path) -> None:
        """Writes the conversation to a file. Raises OSError."""
        messages = [*self._system, *self.turns]
        if file.suffix == ".json":
            text = json.dumps(messages, ensure_ascii=False, indent=2) + "\n"
        else:
            text = "\n".join(f"{message['role']}: {message['content']}\n" for message in messages)
        file.write_text(text, encoding="utf-8", errors="replace")

    def _drop_old_turns(self) -> None:
        """Removes the oldest questions and their answers until an answer fits.

        An answer has max_tokens, but no more than a quarter of the context.
        """
        reserved = min(self._options.max_tokens or self._model.context, self._model.context // 4)
        dropped = 0
        while self._size() + reserved > self._model.context and len(self.turns) > 1:
            del self.turns[:2]
            dropped += 1
        if dropped:
            console.note(
                f"the context is full: forgot the oldest {'turn' if dropped == 1 else f'{dropped} turns'}"
            )

    def _size(self) -> int:
        try:
            return len(self._model.chat_tokens([*self._system, *self.turns], thinking=self._options.thinking))
        except TooLargeError:
            return self._model.context


def _chat(conversation: Conversation, read: Callable[[], str]) -> None:
    while True:
        try:
            line = read().strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        if line == "/quit":
            return
        try:
            if line.startswith("/"):
                _run_command(conversation, line)
            elif line:
                conversation.reply(line)
        except (BinhdanError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            console.error(console.message(error))


def _run_command(conversation: Conversation, line: str) -> None:
    command, _, argument = line.partition(" ")
    argument = argument.strip()
    if command == "/help":
        from binhdan.runtime.cli import tables

        tables.write(tables.grid(_COMMANDS, style=""))
        console.write(_KEYS)
    elif command == "/reset":
        conversation.reset()
        console.note("forgot the conversation")
    elif command == "/save" and argument:
        file = Path(argument).expanduser()
        conversation.save(file)
        console.note(f"saved to {file}")
    elif command == "/save":
        console.error("/save needs the name of a file: /save FILE")
    else:
        console.error(f"no command {command}; /help shows the commands")


def _reader() -> Callable[[], str]:
    """A function that reads one input: with line editing and history in a terminal, else one line."""
    if not console.is_terminal() or os.environ.get("TERM") == "dumb":
        return _read_line
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.key_binding import KeyBindings
    from prompt_toolkit.key_binding.key_processor import KeyPressEvent

    keys = KeyBindings()

    @keys.add("escape", "enter")
    def _(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    session: PromptSession[str] = PromptSession(history=FileHistory(_history_file()), key_bindings=keys)
    return lambda: session.prompt("> ")


def _read_line() -> str:
    if sys.stdin.isatty():
        console.write("> ")
    line = sys.stdin.buffer.readline()
    if not line:
        raise EOFError
    return line.decode("utf-8", "replace")


def _history_file() -> str:
    """The file of earlier inputs, for the arrow keys. Only its owner may read it."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "binhdan"
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = state / "history"
    file.touch(mode=0o600)
    return str(file)
