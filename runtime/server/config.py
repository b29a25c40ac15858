"""The server's settings in layers: defaults, TOML file, environment, command line. Later layers win."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from binhdan.runtime.options import KvType, LoadOptions, size_in_bytes
from binhdan.runtime.reasons import file_reason, value_reason
from binhdan.runtime.server.access.keys import Key, KeyLimits, Keyring
from binhdan.runtime.server.postgres import is_postgres

_PREFIX = "BINHDAN_"  # of environment variables: BINHDAN_PORT
_MAX_FILE_BYTES = 1 << 20
_KEY_LINE = "expected NAME KEY, then optionally tokens_per_minute=N, max_concurrent=N, admin=true"
_EMBEDDED = "embedded"
UNIX = "unix:"  # precedes the path of a unix socket in `host`
_ENVIRONMENT = "the environment"  # layers, in messages
_CHANGES = "the command line"


def parse_size(value: Any) -> Any:
    """The number of bytes in a text such as "2GiB", "500 MB" or "4096". Returns other values unchanged.
    Raises ValueError."""
    if not isinstance(value, str):
        return value
    return size_in_bytes(value)


def _split(value: Any) -> Any:
    """A list from a text with commas, as in environment variables. Returns other values unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _hosts(value: Any) -> Any:
    """As `_split`, but an empty text is the host "": all addresses."""
    return [""] if isinstance(value, str) and not value.strip() else _split(value)


def _file_or_url(value: Any) -> Any:
    """A path, unless it is the URL of a database. Returns other values unchanged."""
    return Path(value) if isinstance(value, str) and not is_postgres(value) else value


Count = Annotated[int, Field(gt=0, lt=2**31)]
Size = Annotated[int, BeforeValidator(parse_size), Field(gt=0, lt=2**63)]  # bytes
Seconds = Annotated[float, Field(gt=0, le=31e6)]
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]


class ModelConfig(BaseModel):
    """Settings of one model, where they differ from the server's: a table `[models.NAME]` with `path`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    context: Count | None = None
    kv_type: KvType | None = None
    draft: str | None = None
    max_kv_bytes: Size | None = None
    max_sequences: Count | None = None
    max_waiting: Count | None = None
    max_decode_stall_ms: Count | None = None
    prefix_cache: bool | None = None
    deterministic: bool | None = None
    threads: Count | None = None


class KeyConfig(BaseModel):
    """One API key: a table `[keys.NAME]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: Annotated[SecretStr, Field(min_length=8)]
    tokens_per_minute: Count | None = None  # None: the server's setting
    max_concurrent: Count | None = None
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

    # Addresses and names to listen on; "unix:/run/binhdan.sock" is a unix socket.
    host: Annotated[tuple[str, ...], BeforeValidator(_hosts), Field(min_length=1)] = ("127.0.0.1",)
    port: Annotated[int, Field(ge=0, lt=2**16)] = 8080  # 0: any free port
    tls_cert: Path | None = None  # PEM file with the certificate and those of its issuers
    tls_key: Path | None = None  # PEM file with its key

    # Name -> a GGUF file, an id of a pulled model, or None for the embedded model. The first model is the
    # default, for requests without a model; `default_model` moves another one to the front.
    models: dict[str, str | None] = Field(default_factory=dict, validate_default=True)
    default_model: str | None = None
    model_settings: dict[str, ModelConfig] = Field(default_factory=dict)  # of the tables [models.NAME]
    # Names of the API -> the file of a LoRA adapter: "MODEL:NAME", or "NAME" for the default model.
    adapters: dict[str, str] = Field(default_factory=dict)
    threads: Count | None = None  # None: the cores that this process may use
    context: Count | None = None  # tokens of prompt and answer; None: the model's own limit
    max_sequences: Count = 16  # requests that run at the same time
    max_waiting: Count = 256  # requests that may wait in addition
    max_kv_bytes: Size | None = None  # keys and values of one model; None: a quarter of the memory
    kv_type: KvType = "f16"  # of keys and values; q8_0 takes half the memory
    # The file of a smaller model with the same tokens, which guesses tokens of answers.
    draft: str | None = None
    max_decode_stall_ms: Count | None = None  # time that prefill may add to a step that decodes; None: 250
    prefix_cache: bool = True
    prefix_cache_dir: Path | None = None  # keeps the prefix cache across restarts; None: memory only
    max_prefix_cache_dir_bytes: Size | None = None  # None: 4 GiB
    deterministic: bool = False
    memory_check: bool = True  # refuse a model that does not fit in the available memory
    max_model_memory_bytes: Size | None = None  # of all loaded models together; None: no limit
    idle_unload: Seconds | None = None  # unload a model that is unused for so long; None: never

    keys: dict[str, KeyConfig] = {}
    tokens_per_minute: Count | None = None  # of each key without a limit of its own
    max_concurrent: Count | None = None  # running requests of each key without a limit of its own
    allowed_hosts: Names = ()  # more names for the Host header; "*.example.vn"; "*" allows any
    cors_origins: Names = ()  # "https://example.vn"; "*" allows any
    metrics_open: bool = False  # /metrics needs no key

    max_body_bytes: Size = 4 << 20  # of one body
    max_buffered_bytes: Size = 256 << 20  # of all incomplete bodies together
    max_json_depth: Count = 64
    max_json_values: Count = 100_000  # in one body
    max_header_bytes: Size = 32 << 10
    header_seconds: Seconds = 10.0  # to receive the headers of a request
    read_seconds: Seconds = 60.0  # to receive its body
    write_seconds: Seconds = 60.0  # for a client to read what waits to be sent
    # Longer than the usual 60 s of proxies, so that a proxy does not reuse a connection while it closes.
    keep_alive_seconds: Seconds = 75.0
    max_connections: Count = 512
    drain_seconds: Seconds = 30.0  # for running requests to end after SIGTERM

    max_prompt_tokens: Count | None = None  # of a prompt; None: the context
    max_answer_tokens: Count | None = None  # of an answer; None: the context
    max_choices: Count = 16  # answers to one prompt, `n`

    # SQLite file of the ledger, or the URL of a PostgreSQL database that servers share; None: in memory.
    ledger: Annotated[str | Path | None, BeforeValidator(_file_or_url)] = None
    tariff: str | None = None  # đồng per kWh, or the name or TOML file of a tariff; None: a household's
    board: str | None = None  # name or TOML file of a board; None: a typical one
    watts: Annotated[float, Field(gt=0, le=1e4)] | None = None  # under load, without a meter; None: board's
    page: bool = True  # serve the chat page at /
    ollama: bool = False  # serve Ollama's API at /api/
    # Fields of a request that this server does not have: an error, named in a response header, or ignored.
    unknown_fields: Literal["refuse", "warn", "ignore"] = "warn"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("tariff", mode="before")
    @classmethod
    def _as_text(cls, tariff: Any) -> Any:
        return str(tariff) if isinstance(tariff, int | float) else tariff

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.strip().removeprefix("[").removesuffix("]") for host in hosts)

    @model_validator(mode="before")
    @classmethod
    def _model_tables(cls, data: Any) -> Any:
        """Divides a table [models.NAME] into the path and the settings of the model."""
        models = data.get("models") if isinstance(data, Mapping) else None
        if not isinstance(models, Mapping):
            return data
        paths, settings = dict(models), dict(data.get("model_settings", {}))
        for name, table in models.items():
            if isinstance(table, Mapping):
                rest = dict(table)
                if "path" not in rest:
                    raise ValueError(f"models.{name}: expected path = FILE, or path = 'embedded'")
                paths[name] = rest.pop("path")
                settings[name] = rest
        return {**data, "models": paths, "model_settings": settings}

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

    @field_validator("adapters", mode="before")
    @classmethod
    def _named_adapters(cls, adapters: Any) -> Any:
        """Accepts a mapping, and "NAME=PATH": a list of them, or one text with commas."""
        if isinstance(adapters, Mapping):
            return adapters
        named: dict[str, str] = {}
        for one in _split(adapters):
            name, _, path = str(one).partition("=")
            if not name or not path:
                raise ValueError(f"expected NAME=PATH or MODEL:NAME=PATH, got {str(one)[:40]!r}")
            if name in named:
                raise ValueError(f"two adapters have the name {name}")
            named[name] = path
        return named

    @model_validator(mode="after")
    def _adapters_of_models(self) -> Self:
        full: dict[str, str] = {}
        for name, path in self.adapters.items():
            base, colon, own = name.rpartition(":")
            if not colon:
                base = next(iter(self.models))
            if base not in self.models:
                known = ", ".join(self.models)
                raise ValueError(f"adapters: {name}: there is no model {base}; there is: {known}")
            if f"{base}:{own}" in self.models or f"{base}:{own}" in full or not own:
                raise ValueError(f"adapters: expected a new name after the model, got {name!r}")
            full[f"{base}:{own}"] = path
        object.__setattr__(self, "adapters", full)
        return self

    @model_validator(mode="after")
    def _public_needs_key(self) -> Self:
        public = [host or "all addresses" for host in self.addresses if not is_loopback(host)]
        if not self.keys and public:
            raise ValueError(
                f"host: other machines can reach {public[0]}, so an API key is needed: "
                "set --api-key-file FILE or BINHDAN_API_KEY, or use --host 127.0.0.1"
            )
        return self

    @model_validator(mode="after")
    def _both_tls_files(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert, tls_key: expected both or none")
        return self

    @property
    def addresses(self) -> list[str]:
        """The hosts that are no unix sockets."""
        return [host for host in self.host if not host.startswith(UNIX)]

    def keyring(self) -> Keyring:
        """The API keys with their limits. Raises InvalidArgumentError for two equal keys."""
        default = KeyLimits(self.tokens_per_minute, self.max_concurrent)
        keys = []
        for name, key in self.keys.items():
            limits = KeyLimits(
                key.tokens_per_minute or default.tokens_per_minute,
                key.max_concurrent or default.max_concurrent,
            )
            keys.append(Key(name, key.key.get_secret_value(), limits, key.admin))
        return Keyring(keys, default)

    def load_options(self, name: str | None = None) -> LoadOptions:
        """The options for loading a model, or those that all models share.

        Raises ModelNotFoundError for a draft model that is not there.
        """
        own = self.model_settings.get(name or "")
        changes = {"draft": self.draft} | ({} if own is None else own.model_dump(exclude_none=True))
        if changes["draft"] is not None:
            changes["draft"] = str(find_model(changes["draft"]))
        folder = self.prefix_cache_dir
        shared = LoadOptions(
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
            memory_check=self.memory_check,
        )
        return replace(shared, **changes)

    def files(self) -> list[str | None]:
        """The files of all models and of their draft models."""
        drafts = {self.load_options(name).draft for name in self.models}
        return [*self.models.values(), *sorted(draft for draft in drafts if draft is not None)]

    def sources(self) -> tuple[dict[str, LoadOptions], dict[str, str]]:
        """The options of each model by its name, and the aliases: name -> an earlier name of the same file
        with the same options."""
        options = {name: self.load_options(name) for name in self.models}
        first: dict[tuple[str | None, LoadOptions], str] = {}
        aliases: dict[str, str] = {}
        for name, path in self.models.items():
            other = first.setdefault((path, options[name]), name)
            if other != name:
                aliases[name] = other
        return options, aliases


def load(
    file: str | os.PathLike[str] | None = None,
    environ: Mapping[str, str] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> ServerConfig:
    """The settings from a TOML file, from variables such as BINHDAN_PORT in `environ`, and from `changes`.

    A setting of a later layer replaces that of an earlier one; API keys of all layers add up. In addition to
    the fields of ServerConfig, each layer may have `api_key` (one or several lines) and `api_key_file` (one
    or several paths). Raises InvalidArgumentError, which names the setting, and FileReadError.
    """
    layers = [
        ("", {}) if file is None else (Path(file).name, _parse_toml(Path(file))),
        (_ENVIRONMENT, _from_environment(environ or {})),
        (_CHANGES, dict(changes or {})),
    ]
    origins = {name: layer for layer, settings in layers for name in settings}
    keys, key_origins = _collect_keys(layers)
    merged: dict[str, Any] = {}
    for _, settings in layers:
        merged |= settings  # a table replaces the table of an earlier layer
    try:
        config = ServerConfig.model_validate(merged | {"keys": keys})
    except ValidationError as error:
        raise InvalidArgumentError(_message(error, origins, key_origins)) from None
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


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The settings from the variables BINHDAN_NAME. Empty variables count as unset: templates of container
    files often have them."""
    names = (ServerConfig.model_fields.keys() - {"keys"}) | {"api_key", "api_key_file"}
    values = {name: environ.get(_variable(name), "").strip() for name in sorted(names)}
    return {name: value for name, value in values.items() if value}


def _variable(name: str) -> str:
    """The environment variable of a setting."""
    return _PREFIX + name.upper()


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
        raise FileReadError(file_reason(error, path)) from None
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"{path.name} is not UTF-8 text") from None


# ---- API keys ----------------------------------------------------------------------------------------------


def _collect_keys(layers: Sequence[tuple[str, dict[str, Any]]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Removes the API keys from all layers. Returns name -> fields of KeyConfig, and name -> where it is.

    `layers`: pairs of a name for messages and settings.
    """
    keys: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def add(name: str, key: Any, origin: str) -> None:
        if name in keys:
            raise InvalidArgumentError(
                f"API keys: {origin}: two keys have the name {name}, the other one in {origins[name]}; "
                "rename one of them"
            )
        keys[name], origins[name] = key, origin

    def add_lines(text: str, origin: str) -> None:
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                place = f"{origin}, line {number}"
                add(*_from_line(line, f"key{len(keys) + 1}", place), place)

    for layer, settings in layers:
        tables = settings.pop("keys", {})
        if not isinstance(tables, Mapping):
            raise InvalidArgumentError(f"API keys: {layer}: expected tables [keys.NAME]")
        for name, key in tables.items():
            add(name, key, layer)
        add_lines("\n".join(_texts(settings.pop("api_key", ()), layer, "api_key")), layer)
        for path in map(Path, _texts(settings.pop("api_key_file", ()), layer, "api_key_file")):
            if path.suffix.lower() == ".toml":  # a table [NAME] for each key
                for name, key in _parse_toml(path).items():
                    add(name, key, path.name)
            else:
                add_lines(_read(path), path.name)
    return keys, origins


def _from_line(line: str, default_name: str, place: str) -> tuple[str, dict[str, Any]]:
    """Name and fields of the key in a line "KEY" or "NAME KEY tokens_per_minute=N max_concurrent=N"."""
    words = line.split()
    if len(words) == 1:
        words = [default_name, *words]
    name, key, *limits = words
    fields = {"key": key}
    for number, limit in enumerate(limits, 3):
        field, _, value = limit.partition("=")
        if field not in ("tokens_per_minute", "max_concurrent", "admin") or not value:
            # The message does not repeat the word, which may be a part of a key.
            raise InvalidArgumentError(f"API keys: {place}: {_KEY_LINE}; word {number} is none of these")
        fields[field] = value
    return name, fields


def _texts(value: Any, layer: str, setting: str) -> list[str]:
    """The texts of a setting that is a text, a path, or a list of them."""
    values = [value] if isinstance(value, str | os.PathLike) else value
    if not isinstance(values, list | tuple) or not all(isinstance(one, str | os.PathLike) for one in values):
        raise InvalidArgumentError(f"{setting}: {layer}: expected a text, or a list of texts")
    return [os.fspath(one) for one in values]


def _message(error: ValidationError, origins: Mapping[str, str], key_origins: Mapping[str, str]) -> str:
    """All errors in one line, each with the place of the setting, and its value unless it may be an API
    key."""
    parts = []
    for one in error.errors(include_url=False):
        location = [str(part) for part in one["loc"]]
        name, place = ".".join(location), ""
        if location:
            in_key = location[0] == "keys" and len(location) > 1
            place = key_origins.get(location[1], "") if in_key else origins.get(location[0], "")
            if place == _ENVIRONMENT:
                place = f"the variable {_variable(location[0])}"
        if one["type"] == "extra_forbidden":
            known = KeyConfig if location[0] == "keys" else ServerConfig
            near = difflib.get_close_matches(location[-1], known.model_fields, 1)
            hint = f"; the nearest name is {near[0]}" if near else ""
            parts.append(f"there is no setting {name}{f' ({place})' if place else ''}{hint}")
        else:
            where = f"{name} ({place})" if place else name
            reason = value_reason(one, show=location[:1] != ["keys"])
            parts.append(f"{where}: {reason}" if name else reason)
    return "; ".join(parts)
