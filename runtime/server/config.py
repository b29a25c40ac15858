"""The server's settings: from a TOML file, the environment and the command line, the later ones winning."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from binhdan.runtime.client import hub
from binhdan.runtime.client.model import find_model
from binhdan.runtime.errors import FileReadError, InvalidArgumentError
from binhdan.runtime.options import KvType, LoadOptions
from binhdan.runtime.server.access.keys import Key, KeyLimits, Keyring

_PREFIX = "BINHDAN_"  # of the environment's names: BINHDAN_PORT
_UNITS = {"": 1, "b": 1} | {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)
_KEY_LINE = "expected NAME KEY, with tokens_per_minute=N, concurrent=N or admin=true behind it where wanted"
_EMBEDDED = "embedded"


def parse_size(value: Any) -> Any:
    """Bytes of "2GiB", "500 MB" or "4096". What is no text stays as it is. Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected bytes, or a size such as 2GiB or 500MB, not {value[:40]!r}")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def _split(value: Any) -> Any:
    """The environment's lists have commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Count = Annotated[int, Field(gt=0, lt=2**31)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, lt=2**63)]  # bytes
Seconds = Annotated[float, Field(gt=0, le=31e6)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class KeyConfig(BaseModel):
    """One API key. Its name is what stands before it: `[keys.NAME]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[SecretStr, Field(min_length=8)]
    tokens_per_minute: Count | None = None  # None: what the server's own setting says
    concurrent: Count | None = None
    admin: bool = False  # sees what all keys cost

    @field_validator("key")
    @classmethod
    def _sendable(cls, key: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("an API key consists of visible ASCII characters")
        return key


class ServerConfig(BaseModel):
    """How the server runs. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=2**16)] = 8080  # 0: any that is free

    # Name -> a GGUF file, an id that was pulled, or None for the embedded model. The first one, or
    # `default_model`, which is put first, answers requests that name none.
    models: dict[str, str | None] = Field(default_factory=dict, validate_default=True)
    default_model: str | None = None
    threads: Count | None = None  # None: the cores that this process may use
    context: Count | None = None  # most tokens of a conversation; None: what the model was made for
    max_sequences: Count = 16  # answers that are made at the same time
    max_waiting: Count = 256  # besides those
    max_kv_bytes: Size | None = None  # a model's most for keys and values; None: a quarter of the machine's
    kv_type: KvType = "f16"  # of keys and values; q8_0 takes half the memory
    max_decode_stall_ms: Count | None = (
        None  # what prompts may add to a step in which others answer; None: 250
    )
    prefix_cache: bool = True
    prefix_cache_dir: Path | None = None
    max_prefix_cache_dir_bytes: Size | None = None  # None: 4 GiB
    deterministic: bool = False
    model_memory_bytes: Size | None = None  # of all models that are loaded; None: no limit
    idle_unload: Seconds | None = None  # a model that nobody asked for so long is unloaded; None: never

    keys: dict[str, KeyConfig] = {}
    tokens_per_minute: Count | None = None  # of each key that has no limit of its own
    concurrent: Count | None = None  # requests at a time of each key that has no limit of its own
    allowed_hosts: Names = ()  # names in the Host header besides our own; "*.example.vn"; "*" is any
    cors_origins: Names = ()  # "https://example.vn"; "*" is any
    metrics_open: bool = False  # /metrics without a key

    body_bytes: Size = 4 << 20  # most of one request
    buffered_bytes: Size = 256 << 20  # most of all requests that are being received
    json_depth: Count = 64
    json_values: Count = 100_000  # in a request's body
    header_bytes: Size = 32 << 10
    header_seconds: Seconds = 10.0  # for a request's headers to come
    read_seconds: Seconds = 60.0  # for its body
    write_seconds: Seconds = 60.0  # for a client to take what is sent
    keep_alive_seconds: Seconds = 75.0  # longer than a proxy's, lest it reuse what is closing
    max_connections: Count = 512
    drain_seconds: Seconds = 30.0  # that running requests have when the server is told to end

    prompt_tokens: Count | None = None  # most of a request; None: the context
    answer_tokens: Count | None = None  # most of an answer; None: the context
    max_choices: Count = 16  # answers to one prompt, `n`

    ledger: Path | None = None  # SQLite file of the bill; None: in memory
    tariff: str | None = None  # đồng per kWh, or a tariff's name or TOML file; None: a household's
    board: str | None = None  # a board's name or TOML file; None: one that stands for many
    watts: Annotated[float, Field(gt=0, le=1e4)] | None = (
        None  # at work, where no meter says; None: the board's
    )
    page: bool = True  # the chat page at /
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("tariff", mode="before")
    @classmethod
    def _as_text(cls, tariff: Any) -> Any:
        return str(tariff) if isinstance(tariff, int | float) else tariff

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return host.strip().removeprefix("[").removesuffix("]")

    @field_validator("models", mode="before")
    @classmethod
    def _named(cls, models: Any) -> Any:
        """From "PATH" and "NAME=PATH" too, one, several, or separated by commas."""
        if isinstance(models, Mapping):
            pairs = [(name, None if path == _EMBEDDED else path) for name, path in models.items()]
        else:
            listed = _split(models)
            if not isinstance(listed, list | tuple):
                raise ValueError(f"expected names and paths, not {type(models).__name__}")
            pairs = [_model(one) for one in listed]
        named: dict[Any, Any] = {}
        for name, path in pairs:
            if name in named:
                raise ValueError(f"two models have the name {name}")
            named[name] = path
        return named or {model_name(None): None}

    @field_validator("models")
    @classmethod
    def _good_names(cls, models: dict[str, str | None]) -> dict[str, str | None]:
        for name in models:
            if not name or len(name) > 200 or not name.isprintable():
                raise ValueError(f"{name[:40]!r} is no name for a model: expected 1 … 200 visible characters")
        return models

    @model_validator(mode="after")
    def _default_first(self) -> Self:
        if self.default_model is not None:
            if self.default_model not in self.models:
                known = ", ".join(self.models)
                raise ValueError(f"default_model: there is no {self.default_model}; there is: {known}")
            first = {self.default_model: self.models[self.default_model]}
            object.__setattr__(self, "models", first | self.models)
        return self

    @model_validator(mode="after")
    def _closed_to_strangers(self) -> Self:
        if not self.keys and not is_loopback(self.host):
            raise ValueError(
                f"others on the network can reach {self.host or 'all addresses'}, so an API key is needed: "
                "give --api-key-file FILE or BINHDAN_API_KEY, or bind to 127.0.0.1"
            )
        return self

    def keyring(self) -> Keyring:
        """Raises InvalidArgumentError for keys that are the same."""
        own = KeyLimits(self.tokens_per_minute, self.concurrent)
        keys = []
        for name, key in self.keys.items():
            limits = KeyLimits(
                key.tokens_per_minute or own.tokens_per_minute, key.concurrent or own.concurrent
            )
            keys.append(Key(name, key.key.get_secret_value(), limits, key.admin))
        return Keyring(keys, own)

    def load_options(self) -> LoadOptions:
        """What every model is loaded with."""
        folder = self.prefix_cache_dir
        return LoadOptions(
            threads=self.threads,
            context=self.context,
            max_sequences=self.max_sequences,
            max_waiting=self.max_waiting,
            max_kv_bytes=self.max_kv_bytes,
            kv_type=self.kv_type,
            max_decode_stall_ms=self.max_decode_stall_ms,
            prefix_cache=self.prefix_cache,
            prefix_cache_dir=None if folder is None else str(folder),
            max_prefix_cache_dir_bytes=self.max_prefix_cache_dir_bytes,
            deterministic=self.deterministic,
        )


def load(
    file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> ServerConfig:
    """The settings of a TOML file, over them those of `environ` (BINHDAN_PORT for port), then `changes`.

    Besides the fields of ServerConfig there are `api_key` (a line, or several) and `api_key_file`: the keys
    of all sources hold together. Raises InvalidArgumentError, which names the setting, and FileReadError.
    """
    settings: dict[str, Any] = {}
    keys: dict[str, Any] = {}
    sources = [] if file is None else [_parse_toml(Path(file))]
    for source in (*sources, _from_environment(environ or {}), dict(changes or {})):
        try:
            _add_keys(keys, source.pop("keys", {}))
            _add_keys(keys, _from_lines(source.pop("api_key", ()), len(keys)))
            for path in _paths(source.pop("api_key_file", ())):
                _add_keys(keys, _from_key_file(path, len(keys)))
        except ValueError as error:
            raise InvalidArgumentError(f"API keys: {error}") from None
        settings |= source
    try:
        config = ServerConfig.model_validate(settings | {"keys": keys})
    except ValidationError as error:
        raise InvalidArgumentError(_message(error)) from None
    config.keyring()
    return config


def is_loopback(host: str) -> bool:
    """Does nobody else reach this address? Names other than localhost may lead anywhere."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def model_name(path_or_id: str | None) -> str:
    """What a model is called when nobody gives it a name: "qwen-0.5b" for "models/qwen-0.5b.gguf"."""
    if path_or_id is None:
        return find_model(None).stem
    name = Path(path_or_id).name
    if not Path(path_or_id).exists() and hub.is_id(path_or_id):
        return name.partition(":")[0]
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name


def _model(text: Any) -> tuple[str, str | None]:
    if not isinstance(text, str):
        raise ValueError(f"expected NAME=PATH or PATH, not {type(text).__name__}")
    name, path = "", text
    if "=" in text and not Path(text).exists():
        name, _, path = text.partition("=")
    source = None if path == _EMBEDDED else path
    return name or model_name(source), source


def _parse_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgumentError(f"{path.name} is no valid TOML: {error}") from None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > 1 << 20:
            raise InvalidArgumentError(f"{path.name} is no file of settings: it has more than 1 MiB")
        return path.read_text("utf-8")
    except OSError as error:
        raise FileReadError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path.name} is not in UTF-8") from None


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """What is empty is not set, as in templates of container files."""
    names = (ServerConfig.model_fields.keys() - {"keys"}) | {"api_key", "api_key_file"}
    values = {name: environ.get(_PREFIX + name.upper(), "").strip() for name in names}
    return {name: value for name, value in values.items() if value}


def _add_keys(keys: dict[str, Any], more: Any) -> None:
    if not isinstance(more, Mapping):
        raise ValueError("expected tables [keys.NAME]")
    for name, key in more.items():
        if name in keys:
            raise ValueError(f"two of them have the name {name}")
        keys[name] = key


def _from_key_file(path: Path, known: int) -> dict[str, Any]:
    """A TOML file with a table [NAME] for each key, or a key on each line."""
    if path.suffix.lower() == ".toml":
        return _parse_toml(path)
    return _from_lines(_read(path), known)


def _from_lines(text: Any, known: int) -> dict[str, Any]:
    """Lines "KEY" or "NAME KEY tokens_per_minute=N concurrent=N"; "#" begins a remark."""
    keys: dict[str, Any] = {}
    lines = (text if isinstance(text, str) else "\n".join(text)).splitlines()
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) == 1:
            words = [f"key{known + len(keys) + 1}", *words]
        name, key, *limits = words
        pairs = [limit.partition("=") for limit in limits]
        if any(
            limit not in ("tokens_per_minute", "concurrent", "admin") or not value
            for limit, _, value in pairs
        ):
            raise ValueError(f"line {number}: {_KEY_LINE}")
        if name in keys:
            raise ValueError(f"two of them have the name {name}")
        keys[name] = {"key": key} | {limit: value for limit, _, value in pairs}
    return keys


def _paths(value: Any) -> list[Path]:
    return [Path(value)] if isinstance(value, str | os.PathLike) else [Path(one) for one in value]


def _message(error: ValidationError) -> str:
    """All that is wrong, in one line, without the values: a key may be among them."""
    parts = []
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            parts.append(f"there is no setting {name}")
        else:
            message = one["msg"].removeprefix("Value error, ")
            parts.append(f"{name}: {message}" if name else message)
    return "; ".join(parts)
