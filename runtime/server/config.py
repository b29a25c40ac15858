"""The server's settings in layers: defaults, TOML file, environment, command line. Later layers win."""

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
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from binhdan.runtime.client import hub
from binhdan.runtime.client.model import find_model
from binhdan.runtime.errors import FileReadError, InvalidArgumentError
from binhdan.runtime.options import KvType, LoadOptions
from binhdan.runtime.server.access.keys import Key, KeyLimits, Keyring

_PREFIX = "BINHDAN_"  # of environment variables: BINHDAN_PORT
_MAX_FILE_BYTES = 1 << 20
_UNITS = {"": 1, "b": 1} | {
    f"{letter}{infix}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for infix, base in (("", 1000), ("i", 1024))
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)", re.IGNORECASE)
_KEY_LINE = "expected NAME KEY, then optionally tokens_per_minute=N, concurrent=N, admin=true"
_EMBEDDED = "embedded"


def parse_size(value: Any) -> Any:
    """The number of bytes in a text such as "2GiB", "500 MB" or "4096". Returns other values unchanged.
    Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = _SIZE.fullmatch(value.strip())
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"expected bytes, or a size such as 2GiB or 500MB, got {value[:40]!r}")
    return int(float(match[1]) * unit) if "." in match[1] else int(match[1]) * unit


def _split(value: Any) -> Any:
    """A list from a text with commas, as in environment variables. Returns other values unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Count = Annotated[int, Field(gt=0, lt=2**31)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, lt=2**63)]  # bytes
Seconds = Annotated[float, Field(gt=0, le=31e6)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class KeyConfig(BaseModel):
    """One API key: a table `[keys.NAME]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[SecretStr, Field(min_length=8)]
    tokens_per_minute: Count | None = None  # None: the server's setting
    concurrent: Count | None = None
    admin: bool = False  # /v1/cost shows the costs of all keys

    @field_validator("key")
    @classmethod
    def _sendable(cls, key: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("expected visible ASCII characters without spaces")
        return key


class ServerConfig(BaseModel):
    """The settings of a server. Sizes in bytes, times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=2**16)] = 8080  # 0: any free port

    # Name -> a GGUF file, an id of a pulled model, or None for the embedded model. The first model is the
    # default, for requests without a model; `default_model` moves another one to the front.
    models: dict[str, str | None] = Field(default_factory=dict, validate_default=True)
    default_model: str | None = None
    threads: Count | None = None  # None: the cores that this process may use
    context: Count | None = None  # tokens of prompt and answer; None: the model's own limit
    max_sequences: Count = 16  # requests that run at the same time
    max_waiting: Count = 256  # requests that may wait in addition
    max_kv_bytes: Size | None = None  # keys and values of one model; None: a quarter of the memory
    kv_type: KvType = "f16"  # of keys and values; q8_0 takes half the memory
    max_decode_stall_ms: Count | None = None  # time that prefill may add to a step that decodes; None: 250
    prefix_cache: bool = True
    prefix_cache_dir: Path | None = None  # keeps the prefix cache across restarts; None: memory only
    max_prefix_cache_dir_bytes: Size | None = None  # None: 4 GiB
    deterministic: bool = False
    model_memory_bytes: Size | None = None  # of all loaded models together; None: no limit
    idle_unload: Seconds | None = None  # unload a model that is unused for so long; None: never

    keys: dict[str, KeyConfig] = {}
    tokens_per_minute: Count | None = None  # of each key without a limit of its own
    concurrent: Count | None = None  # running requests of each key without a limit of its own
    allowed_hosts: Names = ()  # more names for the Host header; "*.example.vn"; "*" allows any
    cors_origins: Names = ()  # "https://example.vn"; "*" allows any
    metrics_open: bool = False  # /metrics needs no key

    body_bytes: Size = 4 << 20  # limit of one body
    buffered_bytes: Size = 256 << 20  # limit of all incomplete bodies together
    json_depth: Count = 64
    json_values: Count = 100_000  # in one body
    header_bytes: Size = 32 << 10
    header_seconds: Seconds = 10.0  # to receive the headers of a request
    read_seconds: Seconds = 60.0  # to receive its body
    write_seconds: Seconds = 60.0  # for a client to read what waits to be sent
    keep_alive_seconds: Seconds = 75.0  # above the usual 60 of proxies: a proxy must not reuse a closing one
    max_connections: Count = 512
    drain_seconds: Seconds = 30.0  # for running requests to end after SIGTERM

    prompt_tokens: Count | None = None  # limit of a prompt; None: the context
    answer_tokens: Count | None = None  # limit of an answer; None: the context
    max_choices: Count = 16  # answers to one prompt, `n`

    ledger: Path | None = None  # SQLite file of the ledger; None: in memory
    tariff: str | None = None  # đồng per kWh, or the name or TOML file of a tariff; None: a household's
    board: str | None = None  # name or TOML file of a board; None: a typical one
    watts: Annotated[float, Field(gt=0, le=1e4)] | None = None  # under load, without a meter; None: board's
    page: bool = True  # serve the chat page at /
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
        """Accepts a mapping, and "PATH" or "NAME=PATH": a list of them, or one text with commas."""
        if isinstance(models, Mapping):
            pairs = [(name, None if path == _EMBEDDED else path) for name, path in models.items()]
        else:
            listed = _split(models)
            if not isinstance(listed, list | tuple):
                raise ValueError(f"expected PATH or NAME=PATH, or several, got {type(models).__name__}")
            pairs = [_name_and_source(one) for one in listed]
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
    def _public_needs_key(self) -> Self:
        if not self.keys and not is_loopback(self.host):
            raise ValueError(
                f"host: other machines can reach {self.host or 'all addresses'}, so an API key is needed: "
                "set --api-key-file FILE or BINHDAN_API_KEY, or use --host 127.0.0.1"
            )
        return self

    def keyring(self) -> Keyring:
        """The API keys with their limits. Raises InvalidArgumentError for two equal keys."""
        default = KeyLimits(self.tokens_per_minute, self.concurrent)
        keys = []
        for name, key in self.keys.items():
            limits = KeyLimits(
                key.tokens_per_minute or default.tokens_per_minute, key.concurrent or default.concurrent
            )
            keys.append(Key(name, key.key.get_secret_value(), limits, key.admin))
        return Keyring(keys, default)

    def load_options(self) -> LoadOptions:
        """The options for loading each model."""
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
    """The settings from a TOML file, from variables such as BINHDAN_PORT in `environ`, and from `changes`.

    Later layers override earlier ones, except API keys, which add up. In addition to the fields of
    ServerConfig, each layer may have `api_key` (one or several lines) and `api_key_file` (one or several
    paths). Raises InvalidArgumentError, which names the setting, and FileReadError.
    """
    in_file = {} if file is None else _parse_toml(Path(file))
    in_environ = {name.lower(): value.strip() for name, value in (environ or {}).items()}
    in_changes = dict(changes or {})
    keys = _collect_keys(in_file, _environment_keys(in_environ), in_changes)

    class Layers(BaseSettings, ServerConfig):
        model_config = SettingsConfigDict(env_prefix=_PREFIX, enable_decoding=False)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            environment = EnvSettingsSource(settings_cls)
            # Empty variables count as unset: templates of container files often have them.
            environment.env_vars = {name: value for name, value in in_environ.items() if value}
            return init_settings, environment, InitSettingsSource(settings_cls, in_file)

    try:
        config = Layers(**in_changes, keys=keys)
    except ValidationError as error:
        raise InvalidArgumentError(_message(error)) from None
    config.keyring()
    return config


def is_loopback(host: str) -> bool:
    """True if no other machine can reach this address. Of names, only localhost: others may resolve to any
    address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def model_name(path_or_id: str | None) -> str:
    """The default name of a model: "qwen-0.5b" for "models/qwen-0.5b.gguf"."""
    if path_or_id is None:
        return find_model(None).stem
    name = Path(path_or_id).name
    if not Path(path_or_id).exists() and hub.is_id(path_or_id):
        return name.partition(":")[0]
    return name[: -len(".gguf")] if name.lower().endswith(".gguf") else name


def _name_and_source(text: Any) -> tuple[str, str | None]:
    if not isinstance(text, str):
        raise ValueError(f"expected NAME=PATH or PATH, got {type(text).__name__}")
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
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise InvalidArgumentError(f"{path.name} is too large: expected settings of at most 1 MiB")
        return path.read_text("utf-8")
    except OSError as error:
        raise FileReadError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path.name} is not UTF-8 text") from None


# ---- API keys ----------------------------------------------------------------------------------------------


def _collect_keys(*layers: dict[str, Any]) -> dict[str, Any]:
    """Removes the API keys from all layers and returns them together: name -> fields of KeyConfig."""
    keys: dict[str, Any] = {}
    try:
        for layer in layers:
            _add_keys(keys, layer.pop("keys", {}))
            _add_keys(keys, _from_lines(layer.pop("api_key", ()), len(keys)))
            for path in _paths(layer.pop("api_key_file", ())):
                _add_keys(keys, _from_key_file(path, len(keys)))
    except ValueError as error:
        raise InvalidArgumentError(f"API keys: {error}") from None
    return keys


def _environment_keys(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {name: f"{_PREFIX}{name}".lower() for name in ("api_key", "api_key_file")}
    return {name: environ[variable] for name, variable in names.items() if environ.get(variable)}


def _add_keys(keys: dict[str, Any], more: Any) -> None:
    if not isinstance(more, Mapping):
        raise ValueError("expected tables [keys.NAME]")
    for name, key in more.items():
        if name in keys:
            raise ValueError(f"two keys have the name {name}")
        keys[name] = key


def _from_key_file(path: Path, known: int) -> dict[str, Any]:
    """The keys of a TOML file with a table [NAME] for each, or of a file with one key per line."""
    if path.suffix.lower() == ".toml":
        return _parse_toml(path)
    return _from_lines(_read(path), known)


def _from_lines(text: Any, known: int) -> dict[str, Any]:
    """The keys of lines "KEY" or "NAME KEY tokens_per_minute=N concurrent=N". "#" starts a comment line.

    A key without a name is called keyN; `known` is the number of keys before these lines.
    """
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
            raise ValueError(f"line {number}: two keys have the name {name}")
        keys[name] = {"key": key} | {limit: value for limit, _, value in pairs}
    return keys


def _paths(value: Any) -> list[Path]:
    return [Path(value)] if isinstance(value, str | os.PathLike) else [Path(one) for one in value]


def _message(error: ValidationError) -> str:
    """All errors in one line. Without the values, because they may be API keys."""
    parts = []
    for one in error.errors(include_input=False, include_url=False, include_context=False):
        name = ".".join(str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            parts.append(f"there is no setting {name}")
        else:
            message = one["msg"].removeprefix("Value error, ")
            parts.append(f"{name}: {message}" if name else message)
    return "; ".join(parts)
