"""What a replica server says when it cannot start, and what it does with what is broken on its disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from replicaserver.cli import main
from replicaserver.storage import folders
from shared.pegasus.wire.structures.layer2 import AppInfo
from tests.processes import run_command, start_daemon
from tests.requires import program

ALONE = ("--meta", "127.0.0.1:1")
"""No metaserver is there."""


def start(*arguments: str | Path, code: int) -> str:
    """The one line with which a start ends."""
    done = run_command("replicaserver", "start", "--port", "0", *arguments)
    assert done.returncode == code, done.stderr
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    return lines[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--meta", "nowhere"), "'nowhere' is not an address of the form host:port"),
        (("--advertise", "host:99999"), "'host:99999' is not an address of the form host:port"),
        (("--provider", "local_service"), "'local_service' is not of the form NAME=URL"),
        (("--set", "verbose"), "--set verbose: expected NAME=VALUE"),
        (("--host", "0.0.0.0"), "--host 0.0.0.0 can be reached from other machines"),
        (("--host", "0.0.0.0", "--insecure"), "--host 0.0.0.0 needs --advertise"),
    ],
)
def test_a_wrong_flag_is_one_clear_line(tmp_path: Path, arguments: tuple[str, ...], message: str):
    done = CliRunner().invoke(main, ["start", "--port", "0", "--data-dir", str(tmp_path), *arguments])
    assert done.exit_code == 2
    assert message in done.output


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("no_such_setting=1", "there is no setting 'no_such_setting'"),
        ("staleness_for_commit=many", "setting 'staleness_for_commit' (FV_INT32): 'many' is not an integer"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(tmp_path: Path, setting: str, message: str):
    done = CliRunner().invoke(main, ["start", "--port", "0", "--data-dir", str(tmp_path), "--set", setting])
    assert (done.exit_code, done.output) == (1, f"replicaserver: {message}\n")


def test_data_folders_need_names(tmp_path: Path):
    message = start("--data-dir", tmp_path, "--set", "data_dirs=/srv/x", code=1)
    assert message == "replicaserver: data_dirs: '/srv/x' is not of the form tag:/path"


def test_a_port_in_use_is_one_clear_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert start("--data-dir", tmp_path, "--port", port, code=1) == (
            f"replicaserver: cannot listen on 127.0.0.1:{port}: the port is in use"
        )


def test_a_folder_that_cannot_be_used_is_one_clear_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    line = start("--data-dir", tmp_path / "file", code=1)
    assert (
        line
        == f"replicaserver: cannot use the data directory {tmp_path / 'file' / 'replica' / 'reps'}: Not a directory"
    )


def test_two_servers_do_not_share_a_folder(tmp_path: Path):
    with start_daemon("replicaserver", *ALONE, "--data-dir", tmp_path):
        line = start("--data-dir", tmp_path, code=1)
        assert (
            line
            == f"replicaserver: the data directory {tmp_path / 'replica' / 'reps'} is in use by another replica server"
        )


def test_replicas_do_not_start_without_the_log_of_their_writes(tmp_path: Path):
    with start_daemon("replicaserver", *ALONE, "--data-dir", tmp_path) as daemon:
        assert daemon.terminate() == 0
    shutil.rmtree(tmp_path / "replica" / "slog")
    for _ in range(2):
        line = start("--data-dir", tmp_path, code=1)
        assert line == (
            f"replicaserver: the log of writes that belongs to {tmp_path / 'replica' / 'reps'} is missing from "
            f"{tmp_path / 'replica' / 'slog'}, and with it acknowledged writes: restore it, or give --accept-loss "
            "to go on without them"
        )
    for flags in (("--accept-loss",), ()):
        with start_daemon("replicaserver", *ALONE, "--data-dir", tmp_path, *flags) as daemon:
            assert daemon.terminate() == 0
            assert ("acknowledged writes are lost, and that was accepted" in daemon.stderr()) == bool(flags)


def test_a_replica_that_is_broken_is_set_aside_and_the_others_open(tmp_path: Path):
    reps = tmp_path / "replica" / "reps"
    for name in ("7.0.pegasus", "7.1.pegasus", "7.2.pegasus", "7.3.pegasus"):
        (reps / name).mkdir(parents=True)
        folders.save_description(reps / name, AppInfo(1, "pegasus", "t", 7, 4))
    (reps / "7.1.pegasus" / ".app-info").write_text("{")
    (reps / "7.2.pegasus" / ".app-info").unlink()
    (reps / "7.3.pegasus" / "data" / "rdb").mkdir(parents=True)
    (reps / "7.3.pegasus" / "data" / "rdb" / "CURRENT").write_text("MANIFEST-999\n")
    (reps / "not a replica").mkdir()
    with start_daemon("replicaserver", *ALONE, "--data-dir", tmp_path) as daemon:
        with urllib.request.urlopen(f"{daemon.url}/replica/data_version?app_id=7") as answer:
            assert answer.read() == b'{"0":{"data_version":"1"}}'
        assert daemon.terminate() == 0
    names = sorted(path.name.split(".")[1] + path.suffix for path in reps.glob("7.*"))
    assert names == ["0.pegasus", "1.err", "2.err", "3.err"]


def test_half_a_request_and_nonsense_disturb_nobody(tmp_path: Path):
    with start_daemon("replicaserver", *ALONE, "--data-dir", tmp_path) as daemon:
        address = ("127.0.0.1", daemon.port)
        with socket.create_connection(address) as half, socket.create_connection(address) as nonsense:
            half.sendall(b"THFT\0\0\0\0\0\0\0\x30" + bytes(8))
            nonsense.sendall(b"HEAD / HTTP/1.1\r\n\r\n")
            assert nonsense.recv(100) == b""
            with urllib.request.urlopen(f"{daemon.url}/healthz") as answer:
                assert answer.status == 200
            with pytest.raises(urllib.error.HTTPError, match="503"):
                urllib.request.urlopen(f"{daemon.url}/readyz")
        assert daemon.terminate() == 0


def test_http_can_be_off(tmp_path: Path):
    with (
        start_daemon("replicaserver", *ALONE, "--data-dir", tmp_path, "--set", "enable_http_server=false") as daemon,
        socket.create_connection(("127.0.0.1", daemon.port)) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert client.recv(100) == b""


def test_help_says_what_is_not_there_yet():
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0
    assert "Not there yet: replication to secondaries" in done.output
    for flag in ("--meta", "--advertise", "--block-cache-mb", "--write-buffers-mb", "--provider", "--data-dir"):
        assert flag in done.output


def ask_until(stop: threading.Event, url: str) -> None:
    while not stop.is_set():
        with urllib.request.urlopen(url) as answer:
            answer.read()


@pytest.mark.parametrize(("name", "arguments"), [("replicaserver", ALONE), ("metaserver", ())])
def test_google_pprof_draws_profiles_from_a_running_server(tmp_path: Path, name: str, arguments: tuple[str, ...]):
    google_pprof = program("google-pprof", "google-perftools")

    def draw(*arguments: str) -> str:
        environment = {**os.environ, "HOME": str(tmp_path), "PPROF_TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [google_pprof, "--text", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            check=True,
        )
        return done.stdout

    environment = {"TCMALLOC_SAMPLE_PARAMETER": "524288"}
    with start_daemon(name, *arguments, "--data-dir", tmp_path / "data", env=environment) as daemon:
        assert name in draw(f"{daemon.url}/pprof/heap")
        stop = threading.Event()
        client = threading.Thread(target=ask_until, args=(stop, f"{daemon.url}/metrics?detail=true"))
        client.start()
        try:
            assert "shared.pegasus." in draw("--seconds=1", f"{daemon.url}/pprof/profile")
        finally:
            stop.set()
            client.join()
