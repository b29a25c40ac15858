"""runtime/server/config.py: the layers of settings, and refused settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binhdan.runtime.client.model import embedded_model
from binhdan.runtime.errors import FileReadError, InvalidArgumentError, ModelNotFoundError
from binhdan.runtime.server.access.keys import KeyLimits
from binhdan.runtime.server.config import ServerConfig, is_loopback, load, model_name, parse_size

KEY = "sk-0123456789abcdef"


def refusal(changes: dict[str, Any], **others: Any) -> str:
    with pytest.raises(InvalidArgumentError) as caught:
        load(changes=changes, **others)
    return str(caught.value)


def test_defaults() -> None:
    config = load()
    assert (config.host, config.port) == (("127.0.0.1",), 8080)
    assert config.models == {embedded_model().stem: None}
    assert not config.keyring().required
    assert config.load_options().max_sequences == 16 and config.load_options().prefix_cache_dir is None


def test_later_layers_override_earlier_ones(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('port = 1\nthreads = 1\ncontext = 1\nmax_kv_bytes = "2GiB"\n[models]\na = "x.gguf"\n')
    environ = {"BINHDAN_THREADS": "2", "BINHDAN_CONTEXT": "2", "BINHDAN_BOARD": "", "OTHER": "x"}
    config = load(file, environ, {"context": 3})
    assert (config.port, config.threads, config.context) == (1, 2, 3)
    assert config.max_kv_bytes == 2 << 30 and config.models == {"a": "x.gguf"} and config.board is None


def test_settings_of_all_types_from_the_environment() -> None:
    environ = {
        "BINHDAN_DETERMINISTIC": "true",
        "BINHDAN_PAGE": "no",
        "BINHDAN_IDLE_UNLOAD": "1.5",
        "BINHDAN_ALLOWED_HOSTS": "a.vn, *.b.vn",
        "BINHDAN_MODELS": "a=x.gguf,embedded",
        "BINHDAN_MAX_BODY_BYTES": "1 MB",
        "BINHDAN_LEDGER": "bill.db",
        "BINHDAN_API_KEY": KEY,
    }
    config = load(environ=environ)
    assert config.deterministic and not config.page and config.idle_unload == 1.5
    assert config.allowed_hosts == ("a.vn", "*.b.vn")
    assert config.models == {"a": "x.gguf", embedded_model().stem: None}
    assert config.max_body_bytes == 1_000_000 and config.ledger == Path("bill.db")
    assert config.keyring().names == ["key1"]


def test_the_names_of_variables_match_exactly() -> None:
    environ = {"binhdan_port": "1", "Binhdan_Threads": "2", "BINHDAN_port": "3", "PORT": "4", "BINHDAN_": "5"}
    config = load(environ=environ)
    assert (config.port, config.threads) == (8080, None)
    assert not load(environ={"binhdan_api_key": KEY}).keyring().required


def test_a_table_replaces_the_table_of_an_earlier_layer(tmp_path: Path) -> None:
    file = tmp_path / "serve.toml"
    file.write_text('[models]\na = "x.gguf"\nb = "y.gguf"\n')
    assert load(file, {}, {"models": {"c": "z.gguf"}}).models == {"c": "z.gguf"}
    assert load(file, {"BINHDAN_MODELS": "d=w.gguf"}).models == {"d": "w.gguf"}


# ---- refused settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prot", "models.x.y", "keys.a.kee"])
def test_the_message_names_unknown_settings(tmp_path: Path, name: str) -> None:
    file = tmp_path / "serve.toml"
    file.write_text(f'[keys.a]\nkey = "{KEY}"\n' if name.startswith("keys") else "")
    with file.open("a") as out:
        out.write({"prot": "prot = 1", "models.x.y": '[models.x]\ny = "z"', "keys.a.kee": "kee = 1"}[name])
    message = refusal({}, file=file)
    assert name.removesuffix(".y") in message and str(tmp_path) not in message


@pytest.mark.parametrize("name", ["_env_file", "_secrets_dir", "_case_sensitive", "model_config"])
def test_names_that_are_not_settings(tmp_path: Path, name: str) -> None:
    (tmp_path / ".env").write_text("BINHDAN_PORT=1\n")
    assert f"there is no setting {name}" in refusal({name: tmp_path / ".env"})


def test_messages_name_the_place_of_a_setting(tmp_path: Path) -> None:
    file, keys = tmp_path / "serve.toml", tmp_path / "keys"
    file.write_text(f'prot = 1\n[keys.lan]\nkey = "{KEY}"\nadmn = true\n')
    message = refusal({"port": -1}, file=file, environ={"BINHDAN_THREADS": "many"})
    assert "there is no setting prot (serve.toml); the nearest name is port" in message
    assert "there is no setting keys.lan.admn (serve.toml); the nearest name is admin" in message
    assert "port (the command line): " in message
    assert "threads (the variable BINHDAN_THREADS): " in message
    file.write_text(f'[keys.lan]\nkey = "{KEY}"\n')
    keys.write_text(f"# keys\nlan {KEY}2\n")
    message = refusal({"api_key_file": [keys]}, file=file)
    assert "keys, line 2: two keys have the name lan, the other one in serve.toml" in message


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"port": 65536}, "port"),
        ({"threads": 0}, "threads"),
        ({"max_kv_bytes": "2 gallons"}, "such as 2GiB"),
        ({"max_kv_bytes": "2G"}, "such as 2GiB"),  # ambiguous: 10^9 or 2^30
        ({"idle_unload": "nan"}, "idle_unload"),
        ({"log_level": "loud"}, "log_level"),
        ({"default_model": "b", "models": ["a=x"]}, "there is no b; there is: a"),
        ({"models": ["a=x", "a=y"]}, "two models have the name a"),
        ({"models": {"\x1b[2J": "x"}}, "no name for a model"),
        ({"models": 3}, "models"),
        ({"api_key": ["short"]}, "keys.key1.key"),
        ({"api_key": ["lan chìa-khóa-của-tôi"]}, "visible ASCII"),
        ({"api_key": [f"lan {KEY} requests=3"]}, "tokens_per_minute=N"),
        ({"api_key": [f"lan {KEY} max_concurrent=many"]}, "keys.lan.max_concurrent"),
        ({"api_key": [f"lan {KEY}", f"lan {KEY}x"]}, "the name lan"),
        ({"api_key": [f"lan {KEY}", f"mai {KEY}"]}, "the same API key"),
        ({"keys": [KEY]}, "[keys.NAME]"),
        ({"api_key": 3}, "api_key: the command line: expected a text"),
        ({"api_key_file": [3]}, "api_key_file: the command line: expected a text"),
    ],
)
def test_bad_values(changes: dict[str, Any], expected: str) -> None:
    message = refusal(changes)
    assert expected in message and KEY not in message and "\n" not in message


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "example.vn", "127.1", "[::]", "0"])
def test_a_public_address_needs_a_key(host: str) -> None:
    assert "an API key is needed" in refusal({"host": host})
    assert load(changes={"host": host, "api_key": [KEY]}).keyring().required


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback(host: str) -> None:
    assert all(map(is_loopback, load(changes={"host": host}).host))


def test_several_hosts_and_unix_sockets() -> None:
    config = load(environ={"BINHDAN_HOST": "127.0.0.1,::1,unix:/run/b.sock"})
    assert config.host == ("127.0.0.1", "::1", "unix:/run/b.sock")
    assert config.addresses == ["127.0.0.1", "::1"]
    with pytest.raises(InvalidArgumentError, match="other machines can reach 10"):
        load(changes={"host": ["127.0.0.1", "10.0.0.1"]})
    with pytest.raises(InvalidArgumentError, match="expected both or none"):
        load(changes={"tls_cert": "a.pem"})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileReadError, match="no such file"):
        load(tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("port = ")
    assert "broken.toml is no valid TOML" in refusal({}, file=broken)
    broken.write_bytes(b"\xff\xfe")
    assert "UTF-8" in refusal({}, file=broken)
    broken.write_bytes(b"#" * (1 << 21))
    assert "1 MiB" in refusal({}, file=broken)


# ---- models ------------------------------------------------------------------------------------------------


def test_model_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model_name("models/qwen2.5-0.5b-q4_0.gguf") == "qwen2.5-0.5b-q4_0"
    assert model_name("org/name") == "name" and model_name("org/name:Q4_0") == "name"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.gguf").touch()
    assert load(changes={"models": ["a=b.gguf"]}).models == {"a=b": "a=b.gguf"}
    assert load(changes={"models": ["tên=b.gguf"]}).models == {"tên": "b.gguf"}
    assert load(changes={"models": ["small=embedded"]}).models == {"small": None}
    assert load(changes={"models": {"small": "embedded"}}).models == {"small": None}


def test_the_default_model_comes_first() -> None:
    config = load(changes={"models": ["a=x", "b=y", "c=z"], "default_model": "b"})
    assert list(config.models) == ["b", "a", "c"]


# ---- keys --------------------------------------------------------------------------------------------------


def test_keys_of_all_layers_add_up(tmp_path: Path) -> None:
    lines, tables, file = tmp_path / "keys", tmp_path / "keys.toml", tmp_path / "serve.toml"
    lines.write_text(f"# name key limits\n\nlan {KEY}1 tokens_per_minute=100 max_concurrent=2\n{KEY}2\n")
    tables.write_text(f'[mai]\nkey = "{KEY}3"\nmax_concurrent = 5\n')
    file.write_text(f'tokens_per_minute = 7\napi_key_file = "{lines}"\n[keys.hoa]\nkey = "{KEY}4"\n')
    config = load(file, {"BINHDAN_API_KEY_FILE": str(tables)}, {"api_key": [f"{KEY}5"]})
    ring = config.keyring()
    assert ring.names == ["hoa", "lan", "key3", "mai", "key5"]
    limits = {name: ring.caller(KEY + n) for name, n in zip(ring.names, "41235", strict=True)}
    assert all(caller is not None and caller.name == name for name, caller in limits.items())
    assert limits["lan"].limits == KeyLimits(100, 2)  # type: ignore[union-attr]
    assert limits["mai"].limits == KeyLimits(7, 5)  # type: ignore[union-attr]
    assert KEY not in repr(config) and KEY not in config.model_dump_json()


# ---- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4096", 4096),
        ("2GiB", 2 << 30),
        ("1.5 GiB", 3 << 29),
        ("500MB", 500_000_000),
        ("1kb", 1000),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@given(st.text(max_size=30))
def test_any_text_is_a_size_or_an_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert "expected bytes" in str(error)


@given(st.dictionaries(st.sampled_from(sorted(ServerConfig.model_fields)), st.text(max_size=20), max_size=4))
def test_any_environment_is_valid_or_an_error(values: dict[str, str]) -> None:
    environ = {f"BINHDAN_{name.upper()}": value for name, value in values.items()}
    try:
        load(environ=environ)
    except InvalidArgumentError as error:
        assert str(error)


def test_settings_of_a_model(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        'context = 512\n[models]\nsame = "embedded"\nalias = "embedded"\n'
        '[models.long]\npath = "embedded"\ncontext = 1024\nkv_type = "q8_0"\nmax_kv_bytes = "64MiB"\n'
    )
    config = load(file)
    options, aliases = config.sources()
    assert list(config.models) == ["same", "alias", "long"] and aliases == {"alias": "same"}
    assert (options["same"].context, options["same"].kv_type) == (512, "f16")
    assert (options["long"].context, options["long"].kv_type) == (1024, "q8_0")
    assert options["long"].max_kv_bytes == 64 << 20
    draft = embedded_model()
    file.write_text(
        f'draft = "{draft}"\n[models]\na = "embedded"\n[models.b]\npath = "embedded"\ncontext = 64\n'
    )
    config = load(file)
    assert [one.draft for one in config.sources()[0].values()] == [str(draft)] * 2
    assert config.files() == [None, None, str(draft)]
    file.write_text('[models.a]\npath = "embedded"\ndraft = "missing.gguf"\n')
    with pytest.raises(ModelNotFoundError, match="no such file: missing"):
        load(file).sources()
    file.write_text('[models.long]\npath = "embedded"\ncontxt = 1\n')
    with pytest.raises(InvalidArgumentError, match="there is no setting model_settings"):
        load(file)
    file.write_text("[models.long]\ncontext = 1\n")
    with pytest.raises(InvalidArgumentError, match="expected path"):
        load(file)
