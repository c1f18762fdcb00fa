"""Reading a csp-gateway server: its OpenAPI document, and what its read-only routes list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlsplit

import orjson
from aiohttp import ClientSession, ClientTimeout

from gateway.commands.importers.openapi import Listings, base_of, feeds_of
from gateway.engine.channels import HEARTBEAT

_TIMEOUT: Final = ClientTimeout(total=30, sock_connect=10)
_FEEDS: Final = 256
"""Of how many channels and keys the last values are looked at."""


async def fetch_document(url: str, token: str | None) -> tuple[dict[str, Any], Listings]:
    """The document of the server at a URL, and its listings.

    Args:
        url: The server, its API, or the document itself.
        token: API key.

    Raises:
        ValueError: What is there is no document of a csp-gateway.
        aiohttp.ClientError: The server cannot be reached.
    """
    headers = {} if token is None else {"token": token}
    async with ClientSession(headers=headers, timeout=_TIMEOUT) as session:
        document, root = await _document(session, url)
        return document, await _listings(session, root + base_of(document), document)


async def _document(session: ClientSession, url: str) -> tuple[dict[str, Any], str]:
    """The document, and the URL in front of its paths."""
    url = url.rstrip("/")
    parts = urlsplit(url)
    at = [url] if url.endswith(".json") else [f"{url}/openapi.json", f"{parts.scheme}://{parts.netloc}/openapi.json"]
    problem = ""
    for each in at:
        status, found = await _get(session, each)
        if isinstance(found, dict) and "paths" in found:
            return found, each.rpartition("/")[0]
        known = {200: "this is not an OpenAPI document", 403: "403: it asks for a key, give it with --token"}
        problem = problem or f"{each}: {known.get(status, f'status {status}')}"
    raise ValueError(problem)


async def _listings(session: ClientSession, api: str, document: Mapping[str, Any]) -> Listings:
    listings = Listings()
    status, _ = await _get(session, f"{api}/last/")
    if status in (401, 403):
        listings.asks_for_key = True
        return listings
    listings.stream = [feed for feed in await _names(session, f"{api}/stream") or [] if feed != HEARTBEAT]
    listings.send = await _names(session, f"{api}/send/")
    names = feeds_of(document)
    feeds = [feed for name in names for feed in [f"{name}/{key}" for key in listings.keys(name)] or [name]]
    lookups = feeds_of(document, "lookup")
    for feed in feeds[:_FEEDS]:
        _, values = await _get(session, f"{api}/last/{quote(feed)}")
        if not isinstance(values, list) or not values or not isinstance(values[0], dict):
            continue
        listings.last[feed] = values
        name = feed.partition("/")[0]
        known_id = values[0].get("id")
        if name in lookups and isinstance(known_id, str):
            _, found = await _get(session, f"{api}/lookup/{name}/{quote(known_id)}")
            if found == []:
                listings.omitted.add(name)
    for name in await _names(session, f"{api}/field") or []:
        status, listings.fields[name] = await _get(session, f"{api}/field/{quote(name)}")
        if status != 200:
            del listings.fields[name]
    return listings


async def _names(session: ClientSession, url: str) -> list[str] | None:
    """A listing, or None where there is none."""
    status, value = await _get(session, url)
    return [str(each) for each in value] if status == 200 and isinstance(value, list) else None


async def _get(session: ClientSession, url: str) -> tuple[int, Any]:
    """The status and the JSON behind a URL; None for what is no JSON."""
    async with session.get(url) as answer:
        body = await answer.read()
        try:
            return answer.status, orjson.loads(body)
        except ValueError:
            return answer.status, None
