"""Options: what wins, what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from shared.cli import is_loopback
from tests.shared.subject import main


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], env=env, prog_name="subject")


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text('port = 1003\npaint-colour = "from file"\ndata-dir = "elsewhere"\n')
    return path


def test_start_is_the_default_command():
    assert run("--show").output == run("start", "--show").output == "127.0.0.1 4999 api red data\n"


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(settings_file: Path):
    environment = {"SUBJECT_PORT": "1002", "SUBJECT_PAINT_COLOUR": "from environment"}
    everything = run("--show", "--config", settings_file, "--port", "1001", env=environment)
    assert everything.output == "127.0.0.1 1001 api from environment elsewhere\n"


def test_the_settings_file_may_be_named_by_the_environment(settings_file: Path):
    assert "1003" in run("--show", env={"SUBJECT_CONFIG": str(settings_file)}).output


def test_surrounding_slashes_of_the_prefix_do_not_matter():
    assert " v1/x " in run("--show", "--prefix", "/v1/x/").output


def test_an_unknown_setting_in_the_file_is_named_with_the_closest_known_one(tmp_path: Path):
    path = tmp_path / "settings.toml"
    path.write_text("prot = 1\n")
    result = run("--show", "--config", path)
    assert result.exit_code == 2
    assert f"{path}: unknown setting 'prot' (did you mean 'port'?)" in result.stderr


def test_a_settings_file_that_is_not_toml_is_a_usage_error_with_its_position(tmp_path: Path):
    path = tmp_path / "settings.toml"
    path.write_text("port == 1\n")
    result = run("--show", "--config", path)
    assert result.exit_code == 2
    assert "line 1" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "70000"], "'--port'"),
        (["--port", "http"], "'http' is not a valid integer"),
        (["--log-level", "loud"], "'--log-level'"),
        (["--tls-cert", "/nowhere.pem"], "/nowhere.pem"),
        (["--paint-colur", "red"], "--paint-colour"),
        (["--prefix", "a b"], "'a b' is not a path"),
        (["--prefix", "a//b"], "'a//b' is not a path"),
        (["strat"], "No such command 'strat'"),
    ],
)
def test_wrong_usage_is_one_message_and_exit_code_2(arguments: list[str], complaint: str):
    result = run(*arguments)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def test_help_shows_every_option_with_default_and_environment_variable():
    text = " ".join(run("--help").output.split())
    assert "--port INTEGER RANGE" in text
    assert "[env var: SUBJECT_PORT; default: 4999;" in text
    assert "env var: SUBJECT_PAINT_COLOUR; default: red" in text
    assert "paint" in text


def test_a_public_address_needs_authentication_or_the_word_insecure():
    refused = run("--show", "--host", "0.0.0.0")
    assert refused.exit_code == 2
    assert "give --token, or --insecure if that is meant" in refused.stderr
    assert run("--show", "--host", "0.0.0.0", "--insecure").exit_code == 0


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db1", False)],
)
def test_which_addresses_only_this_machine_can_reach(host: str, expected: bool):
    assert is_loopback(host) is expected
