"""API keys, auth plugins by name, and the classic configuration file (protocol §5, §7)."""

from __future__ import annotations

import hashlib
import textwrap
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from intake_server.auth.configuration import config_path, plugin_from, read_config, read_keys
from intake_server.auth.plugins import BaseAuth, Grant, SecretAuth
from intake_server.cli import main
from shared.errors import StartupError


def write(path: Path, text: str) -> Path:
    path.write_text(textwrap.dedent(text))
    return path


def test_keys_are_kept_as_digests(tmp_path: Path):
    digest = hashlib.sha256(b"other").hexdigest()
    keys = read_keys(
        write(
            tmp_path / "keys.yml",
            f"""
            keys:
              - {{name: analyst, key: word, allow: [sales], deny: [sales.salaries]}}
              - {{name: robot, sha256: {digest.upper()}}}
            anonymous: {{allow: ["public.*"]}}
            """,
        )
    )
    assert keys.grant({"x-api-key": "word"}) == Grant(
        "analyst", hashlib.sha256(b"word").hexdigest(), ("sales",), ("sales.salaries",)
    )
    assert keys.grant({"Authorization": "Bearer other"}) == Grant("robot", digest)
    assert keys.grant({}) == Grant("anonymous", None, ("public.*",))
    assert keys.grant({"x-api-key": "wrong"}) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1]", "expected a map with a list 'keys'"),
        ("keys: 1", "expected a map with a list 'keys'"),
        ("keys: []\nuser: me", "unknown key 'user'"),
        ("keys: [1]", "key 1: expected a map with a text 'name'"),
        ("keys: [{name: me}]", "key 'me': expected a text 'key', or 'sha256'"),
        ("keys: [{name: me, sha256: short}]", "64 hexadecimal digits"),
        ("keys: [{name: me, key: k, allow: all}]", "key 'me': 'allow' must be a list of entry paths"),
        ("keys: [{name: me, key: k, alow: [all]}]", "key 'me': unknown key 'alow'"),
        ("keys: [{name: me, key: a}, {name: me, key: b}]", "two keys have the same name"),
        ("anonymous: all", "anonymous: expected a map"),
        ("keys: [", "not YAML"),
    ],
)
def test_mistakes_in_a_file_of_keys(tmp_path: Path, text: str, says: str):
    with pytest.raises(StartupError) as raised:
        read_keys(write(tmp_path / "keys.yml", text))
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("path", "covered"),
    [
        (("sales",), True),
        (("sales", "orders"), True),
        (("sales", "salaries"), False),
        (("sales", "salaries", "2026"), False),
        (("public",), True),
        (("public", "x"), True),
        (("private",), False),
        (("salesmen",), False),
    ],
)
def test_what_a_grant_covers(path: tuple[str, ...], covered: bool):
    grant = Grant("me", None, allow=("sales", "public.*"), deny=("sales.salaries",))
    assert grant.covers(path) is covered


def test_the_classic_plugins_work_under_their_names():
    assert type(plugin_from("intake.auth.base.BaseAuth")) is BaseAuth
    secret = plugin_from({"cls": "intake.auth.secret.SecretAuth", "kwargs": {"secret": "word", "key": "x-mine"}})
    assert isinstance(secret, SecretAuth)
    assert secret.allow_connect({"X-Mine": "word"})
    assert not secret.allow_connect({"intake-secret": "word"})


def test_a_secret_that_nobody_chose_is_made_up():
    one, other = SecretAuth(), SecretAuth()
    assert (one.was_generated, one.secret != other.secret, len(one.secret)) == (True, True, 32)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (7, "expected a dotted class name"),
        ({"args": []}, "expected a dotted class name"),
        ("nowhere.Nothing", "there is no class nowhere.Nothing"),
        ("plain", "there is no class plain"),
        ({"cls": "intake.auth.secret.SecretAuth", "kwargs": {"word": 1}}, "cannot be made"),
        ({"cls": "intake.auth.base.BaseAuth", "args": 7}, "'args' must be a list"),
    ],
)
def test_plugins_that_cannot_be_made(value: Any, says: str):
    with pytest.raises(StartupError) as raised:
        plugin_from(value)
    assert says in str(raised.value)


def test_where_the_classic_file_is():
    assert config_path({"INTAKE_CONF_FILE": "/a/x.yaml", "INTAKE_CONF_DIR": "/b"}) == Path("/a/x.yaml")
    assert config_path({"INTAKE_CONF_DIR": "/b"}) == Path("/b/conf.yaml")
    assert config_path({}) == Path.home() / ".intake" / "conf.yaml"


@pytest.mark.parametrize(("text", "settings"), [("port: 7", {"port": 7}), ("", {}), ("[", {}), ("- 1", {})])
def test_a_classic_file_that_is_broken_is_as_good_as_none(tmp_path: Path, text: str, settings: dict[str, Any]):
    assert read_config(write(tmp_path / "conf.yaml", text)) == settings
    assert read_config(tmp_path / "none.yaml") == {}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["x.yml", "--auth-secret", "a", "--api-keys", __file__], "exclude each other"),
        (["x.yml", "--allow-override", "urlpath"], "expected ENTRY:ARGUMENT"),
        (["intake://other:5000"], "another server's catalog cannot be served"),
        (["x.yml", "--memory", "0"], "not a number of bytes"),
        (["x.yml", "--address", "0.0.0.0"], "--auth-secret or --api-keys"),
        (["x.yml", "--ttl", "-1"], "--ttl"),
        (["x.yml", "--scheduler", "nonsense"], "expected an address such as tcp://"),
    ],
)
def test_flags_that_make_no_sense_are_usage_errors(arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INTAKE_CONF_FILE", "/nonexistent")
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, says in done.output) == (2, True), done.output


def test_check_tells_the_operator_whole_paths_unknown_variables_and_files_of_another_form(tmp_path: Path):
    write(tmp_path / "lines", '{"x": 1}\n{"x": 2}\n')
    catalog = """
sources:
  missing: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIR }}/none.txt'}}
  misspelt: {driver: textfiles, args: {urlpath: '{{ CATALOG_DIRR }}/lines'}}
  lines: {driver: json, args: {urlpath: '{{ CATALOG_DIR }}/lines'}}
  fine:
    driver: textfiles
    args: {urlpath: "{{ CATALOG_DIR }}/{{ env(NO_SUCH_NAME) }}{{ other | default('lines') }}"}
"""
    done = CliRunner().invoke(main, ["check", str(write(tmp_path / "c.yml", catalog))])
    told = dict(line.split(": ", 1) for line in done.output.splitlines() if line[:6] in ("FAILED", "ok    "))
    assert done.exit_code == 1
    assert told["FAILED  missing"].startswith(f"{tmp_path}/none.txt: ")
    assert told["FAILED  misspelt"] == "unknown variable 'CATALOG_DIRR' in the arguments, did you mean 'CATALOG_DIR'?"
    assert "use 'jsonl'" in told["FAILED  lines"]
    assert told["ok      fine"].startswith("python")
