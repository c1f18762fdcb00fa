"""The command line: check, and tail, send and state against a running gateway."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.conftest import Client, Serve, until
from tests.gateway.examples import DEMO_TYPES
from tests.processes import command


async def run(*arguments: str, stdin: str | None = None) -> tuple[int, list[Any], str]:
    """Exit code, printed JSON values, and standard error of a command."""
    process = await asyncio.create_subprocess_exec(
        command("gateway"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(None if stdin is None else stdin.encode())
    assert process.returncode is not None
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.decode()


def at(gateway: Client) -> tuple[str, str]:
    return "--url", f"http://{gateway.http.host}:{gateway.http.port}/api/v1"


async def test_send_prints_what_was_accepted_and_state_finds_it(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    code, sent, _ = await run("send", "by_x", '[{"x":10},{"x":30},{"x":50}]', *at(gateway))
    assert (code, [each["x"] for each in sent]) == (0, [10, 30, 50])
    code, found, err = await run("state", "by_x", "--where", "x>=30", "--sort", "-x", "--fields", "x", *at(gateway))
    assert (code, found, err) == (0, [{"x": 50}, {"x": 30}], "")
    code, found, err = await run("state", "by_x", "--where", "x>=30 and x<50", "--fields", "x", *at(gateway))
    assert (code, found, err) == (0, [{"x": 30}], "")
    code, sent, _ = await run("send", "basket/A", "-", *at(gateway), stdin='{"x":1}')
    assert (code, await gateway.get("/last/basket/A")) == (0, sent)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--where", "x>=30", "--where", "bogus=1"), "Error: filter 1: unknown field bogus\n"),
        (("--where", "x>=many"), "Error: filter 0: cannot compare x (int) with 'many'\n"),
        (("--sort", "bogus"), "Error: sort: unknown field bogus\n"),
        (("--fields", "bogus"), "Error: fields: unknown field bogus\n"),
    ],
)
async def test_what_a_gateway_would_ignore_is_an_error(serve: Serve, options: tuple[str, ...], complaint: str):
    gateway = await serve(DEMO_TYPES)
    await gateway.send("by_x", [{"x": 10}, {"x": 30}])
    assert await run("state", "by_x", *options, *at(gateway)) == (1, [], complaint)


@pytest.mark.parametrize("condition", ["x>=30 or x<2", "x", "x ==", " ", "x in [1,"])
async def test_what_is_no_condition_is_an_error(condition: str):
    code, found, err = await run("state", "by_x", "--where", condition, "--url", "http://127.0.0.1:1/api/v1")
    assert (code, found) == (2, [])
    assert "Error: Invalid value for --where: " in err


async def test_tail_prints_one_struct_a_line(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    tailing = asyncio.ensure_future(run("tail", "basket/A", "--count", "2", *at(gateway)))
    feed = gateway.gateway.engine.channels["basket"].feed("A")
    assert feed is not None
    await until(lambda: bool(feed.subscribers))
    await gateway.send("basket", {"A": {"x": 1}, "B": {"x": 2}})
    await gateway.send("basket/A", {"x": 3})
    code, printed, _ = await tailing
    assert (code, [each["x"] for each in printed]) == (0, [1, 3])


async def test_a_reader_that_has_read_enough_ends_a_command_without_a_word(serve: Serve):
    gateway = await serve(DEMO_TYPES)
    _, url = at(gateway)
    await run("send", "by_x", json.dumps([{"x": number} for number in range(2000)]), *at(gateway))
    process = await asyncio.create_subprocess_exec(
        "bash",
        *("-c", 'set -o pipefail; "$0" state by_x --url "$1" | head -1', command("gateway"), url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, err, out.count(b"\n")) == (0, b"", 1)


async def test_what_goes_wrong_is_one_line(serve: Serve):
    gateway = await serve("auth: {api_key: {keys: [k]}}\n" + DEMO_TYPES)
    token = ("--token", "k")
    assert (await run("send", "example", "{}", *at(gateway)))[::2] == (1, "Error: 403: unauthorized\n")
    code, _, err = await run("send", "example", '{"x":-1}', *at(gateway), *token)
    assert (code, err) == (1, "Error: 422: body.x: Value error, value must be non-negative.\n")
    code, _, err = await run("tail", "nope", *at(gateway), *token)
    assert (code, err) == (1, "Error: unknown channel 'nope'\n")
    code, _, err = await run("send", "example", "{x", *at(gateway))
    assert code == 2
    code, _, err = await run("state", "by_x", "--url", "http://127.0.0.1:1/api/v1")
    assert (code, err.count("\n")) == (1, 1)
    assert err.startswith("Error: cannot reach the gateway: ")


def gateway_command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [command("gateway"), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_check_prints_the_routes_of_a_file(tmp_path: Path):
    file = tmp_path / "channels.yml"
    file.write_text(DEMO_TYPES)
    done = gateway_command("check", file)
    assert done.returncode == 0, done.stderr
    assert "GET    /api/v1/last/example\n" in done.stdout
    assert "POST   /api/v1/send/basket/{key}\n" in done.stdout


def test_check_says_what_is_wrong_and_where(tmp_path: Path):
    file = tmp_path / "channels.yml"
    file.write_text(DEMO_TYPES.replace("keyby: [x]}}", "keyby: [z]}}", 1))
    done = gateway_command("check", file)
    assert done.returncode == 1
    assert "by_x.state: keyby 'z' is not a field of Example" in done.stderr
    assert f"{file}:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path):
    for arguments in (("run", tmp_path / "nowhere.yml"), ("start", "--channels", tmp_path / "nowhere.yml")):
        done = gateway_command(*arguments)
        assert done.returncode == 1
        assert done.stderr == f"gateway: cannot read {tmp_path}/nowhere.yml: No such file or directory\n"


def test_a_public_address_needs_a_key(tmp_path: Path):
    done = gateway_command("start", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 2
    assert "auth.api_key" in done.stderr


def test_nothing_heavy_is_loaded_before_it_is_needed():
    heavy = ("duckdb", "numpy", "pyarrow", "pandas")
    code = f"import sys, gateway.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
