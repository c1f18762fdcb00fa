"""`gateway tail`, `send` and `state`: a gateway from the command line, over its public API."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from typing import Any, Final
from urllib.parse import quote

import click
import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout, WSMsgType

from gateway.commands.conditions import read_conditions
from shared.cli import option

_URL: Final = "http://127.0.0.1:8000/api/v1"

url_option = option("--url", default=_URL, help="The gateway's API.")
token_option = option("--token", help="API key.", show_default=False)


@click.command("tail")
@click.argument("channel")
@url_option
@token_option
@click.option("--snapshot", is_flag=True, help="Begin with the last value.")
@click.option("--after", metavar="ID", help="Begin behind the struct with this id, if the gateway remembers it.")
@click.option("--count", type=click.IntRange(min=1), help="End after that many messages.")
def tail(channel: str, url: str, token: str | None, snapshot: bool, after: str | None, count: int | None) -> None:
    """Print the ticks of CHANNEL (a channel, or BASKET/KEY) as they come, one struct a line."""
    name, _, key = channel.partition("/")
    action: dict[str, Any] = {"action": "subscribe", "channel": name} | ({"key": key} if key else {})
    action |= ({"snapshot": True} if snapshot else {}) | ({"after": after} if after else {})
    _run(_tail(url, token, action, count))


@click.command("send")
@click.argument("channel")
@click.argument("value", metavar="JSON")
@url_option
@token_option
def send(channel: str, value: str, url: str, token: str | None) -> None:
    """Tick CHANNEL (a channel, or BASKET/KEY) with JSON: a struct, or a list of structs; - reads standard input."""
    text = sys.stdin.read() if value == "-" else value
    try:
        json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"JSON: {error}") from error
    _run(_call("POST", f"{url}/send/{quote(channel)}", token, body=text))


@click.command("state")
@click.argument("alias", metavar="CHANNEL")
@url_option
@token_option
@click.option("--where", "conditions", multiple=True, metavar="CONDITION", help="As 'x>=30 and y<2'; all must hold.")
@click.option("--sort", multiple=True, metavar="FIELD", help="Sort by a field; -FIELD for descending order.")
@click.option("--limit", type=click.IntRange(min=0), help="Print that many records at most.")
@click.option("--offset", type=click.IntRange(min=0), help="Skip that many records first.")
@click.option("--fields", metavar="A,B", help="Print these members alone.")
def state(
    alias: str,
    url: str,
    token: str | None,
    conditions: tuple[str, ...],
    sort: tuple[str, ...],
    limit: int | None,
    offset: int | None,
    fields: str | None,
) -> None:
    """Print the records of the state of CHANNEL, one a line.

    \b
    Conditions:  x>=30   name==AAPL   inner.z!=1   timestamp<2026-11-21T04:00:00
                 x in [1,2,3]   y is null   y is not null   bid<@ask (another field)
                 x>=30 and name=="A and B" (joined by 'and' or commas)
    """
    query: dict[str, Any] = {"filters": _filters(conditions)}
    if sort:
        query["sort"] = [[name.lstrip("-"), "desc" if name.startswith("-") else "asc"] for name in sort]
    query |= {name: value for name, value in (("limit", limit), ("offset", offset)) if value is not None}
    if fields is not None:
        query["fields"] = [name.strip() for name in fields.split(",")]
    _run(_call("GET", f"{url}/state/{quote(alias)}", token, query={"query": json.dumps(query)}))


def _filters(conditions: tuple[str, ...]) -> list[dict[str, Any]]:
    filters: list[dict[str, Any]] = []
    for text in conditions:
        try:
            read = read_conditions(text)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--where") from error
        if not read:
            raise click.BadParameter("is empty; leave it out to see all records", param_hint="--where")
        filters += read
    return filters


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except (ClientError, OSError, TimeoutError) as error:
        raise click.ClickException(f"cannot reach the gateway: {error}") from error
    except KeyboardInterrupt:
        sys.exit(130)


async def _call(
    method: str, url: str, token: str | None, *, body: str | None = None, query: dict[str, str] | None = None
) -> None:
    headers = {"Content-Type": "application/json"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    async with (
        ClientSession(timeout=ClientTimeout(total=None, sock_connect=10)) as session,
        session.request(method, url, headers=headers, data=body, params=query) as answer,
    ):
        text = await answer.read()
        if answer.status != 200:
            raise click.ClickException(f"{answer.status}: {_detail(text)}")
        ignored = answer.headers.getall("X-Gateway-Query-Warning", [])
        if ignored:  # the gateway answers, but without what it ignored
            raise click.ClickException("; ".join(ignored))
        for record in orjson.loads(text):
            _print(record)


async def _tail(url: str, token: str | None, action: dict[str, Any], count: int | None) -> None:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    async with (
        ClientSession(headers=headers, timeout=ClientTimeout(total=None, sock_connect=10)) as session,
        session.ws_connect(f"{url}/stream", heartbeat=20, max_msg_size=0) as socket,
    ):
        await socket.send_json({"action": "hello", "errors": True})
        await socket.send_json(action)
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            received = orjson.loads(message.data)
            if received["channel"] == "error":
                raise click.ClickException(str(received["data"]["detail"]))
            if received["channel"] == "ack":
                continue
            for record in received["data"] if isinstance(received["data"], list) else [received["data"]]:
                _print(record)
            count = None if count is None else count - 1
            if count == 0:
                return
    raise click.ClickException(f"the gateway closed the stream (code {socket.close_code})")


def _print(record: Any) -> None:
    try:
        sys.stdout.buffer.write(orjson.dumps(record) + b"\n")
        sys.stdout.buffer.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        sys.exit(0)


def _detail(text: bytes) -> str:
    try:
        detail = orjson.loads(text)["detail"]
    except (ValueError, TypeError, KeyError):
        return text.decode("utf-8", "replace")
    if isinstance(detail, list):
        return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in detail)
    return str(detail)
