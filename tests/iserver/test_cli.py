"""The command line (protocol §14)."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import iserver.cli
from iserver.settings import ServerSettings

EXAMPLE = Path(__file__).parents[2] / "iserver/example"
FDL = str(EXAMPLE / "shop.fdl")
ENVIRONMENT = "f6d3a522-320e-47f6-9ad7-4534c050cfa0"


@pytest.fixture
def started(monkeypatch):
    """Runs the command up to where the server would start, and gives what it would start with."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> ServerSettings:
        found = []
        monkeypatch.setattr(iserver.cli, "run_daemon", lambda name, options, build: found.append(build()._settings))
        outcome = CliRunner().invoke(iserver.cli.main, arguments, env=env, catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return found[0]

    return run


def refused(*arguments: str) -> str:
    outcome = CliRunner().invoke(iserver.cli.main, arguments)
    assert outcome.exit_code == 2
    return outcome.output


def test_fdl_suffices(started):
    settings = started("--fdl", FDL)
    assert settings == ServerSettings(data_dir=Path("data"), fdl_files=(Path(FDL),))


def test_every_flag_has_an_environment_variable(started):
    env = {"ISERVER_FDL": FDL, "ISERVER_SESSION_TIMEOUT": "60", "ISERVER_JOURNAL": "off", "ISERVER_ENABLE_CMD": "1"}
    settings = started("start", env=env)
    assert (settings.session_timeout_s, settings.journal, settings.enable_cmd) == (60.0, False, True)


def test_config_takes_settings_and_a_document_told_apart_by_suffix(started, tmp_path):
    (tmp_path / "settings.toml").write_text('session-timeout = 90\nprefix = "causal"\nenable-cmd = true\n')
    document = EXAMPLE / "shop.json"
    settings = started("--config", str(tmp_path / "settings.toml"), "--config", str(document), "--prefix", "")
    assert settings.config_file == document
    assert (settings.session_timeout_s, settings.enable_cmd) == (90.0, True)
    assert settings.prefix == ""


def test_commands_on_a_public_address_need_a_token_or_consent(started):
    public = ["--fdl", FDL, "--host", "0.0.0.0"]
    assert "--cmd-token" in refused(*public, "--enable-cmd")
    assert started(*public).enable_cmd is False
    assert started(*public, "--enable-cmd", "--cmd-token", "secret").enable_cmd
    assert started(*public, "--enable-cmd", "--insecure").enable_cmd


def test_a_configuration_server_needs_a_token_and_an_environment(started):
    arguments = ["--config-server", "http://control", "--token", "t", "--environment", ENVIRONMENT]
    assert started(*arguments).environment == ENVIRONMENT
    assert "--config-server needs --token and --environment" in refused(*arguments[:4])


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nothing to serve"),
        (["--token", "t"], "nothing to serve"),
        (["--fdl", FDL, "--environment", "prod"], "'prod' is not a UUID"),
        (["--fdl", FDL, "--etl-interval", "0"], "etl-interval"),
        (["--fdl", FDL, "--config", FDL], "expected a settings file *.toml or a configuration document *.json"),
        (["--accept-fdl", "--fdl", FDL], "--accept-fdl needs --token and --config FILE.json"),
        (["--fdl", FDL, "--nonsense"], "No such option"),
    ],
)
def test_a_wrong_command_line_is_told_what_is_wrong(arguments, text):
    assert text in refused(*arguments)


def test_two_documents_are_one_too_many():
    document = str(EXAMPLE / "shop.json")
    assert "one configuration document is enough, found 2" in refused("--config", document, "--config", document)


def test_a_setting_that_does_not_exist_is_named(tmp_path):
    (tmp_path / "settings.toml").write_text("sesion-timeout = 90\n")
    assert "unknown setting 'sesion-timeout'" in refused("--config", str(tmp_path / "settings.toml"))
