"""Header values become text at the edge, whatever bytes a client sent."""

from __future__ import annotations

import json
import logging

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage

from shared import logs
from shared.auth import equal
from shared.errors import Problem
from shared.http.lifecycle import json_value
from shared.http.text import header_text


@pytest.mark.parametrize(
    ("sent", "read"),
    [(b"Mozilla/5.0", "Mozilla/5.0"), ("Zoë".encode(), "Zoë"), ("Zoë".encode("latin-1"), "Zoë"), (b"\xff\xfe", "ÿþ")],
)
def test_a_header_is_utf_8_or_else_iso_8859_1(sent, read):
    text = header_text(sent.decode("utf-8", "surrogateescape"))
    assert text == read
    assert text.encode()


def test_a_credential_of_any_bytes_is_only_a_wrong_one():
    assert equal(header_text("\udcff"), "secret") is False
    assert equal("\udcff", "secret") is False
    assert equal("\ud800", "\ud800") is True


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (rb'["cut \ud83d", "\ude00", "\ud83d\ude00"]', ["cut \ufffd", "\ufffd", "😀"]),
        (rb'["\ud83d\ud83d\ude00", "\ud83d\u0041", 1.0, 1]', ["\ufffd😀", "\ufffdA", 1.0, 1]),
        (rb'{"\\ud83d": "\\\ud83d"}', {"\\ud83d": "\\\ufffd"}),
        ('{"ü": "\\udfff"}'.encode(), {"ü": "\ufffd"}),
    ],
)
def test_half_of_a_surrogate_pair_is_a_replacement_character_as_browsers_send_it(sent, read):
    assert json_value(sent) == read


@pytest.mark.parametrize(
    "sent", [rb'["\ud83d", NaN]', rb'["\ud83d"', b'["\xed\xa0\xbd"]', rb'["\ud83d"' + b"[" * 100_000]
)
def test_what_is_no_json_is_refused_with_half_of_a_surrogate_pair_too(sent):
    with pytest.raises(Problem, match="malformed JSON"):
        json_value(sent)


def test_a_malformed_request_is_one_line_at_debug_level(capsys):
    logs.configure("debug", "json")
    try:
        log_malformed(BadHttpMessage("Invalid header:\n\n  secret"))
        (line,) = capsys.readouterr().err.splitlines()
        entry = json.loads(line)
        assert (entry["level"], entry["event"]) == ("debug", "malformed HTTP request: Invalid header:")
        assert "exception" not in entry
        logs.configure("info", "json")
        log_malformed(BadHttpMessage("Invalid header"))
        assert capsys.readouterr().err == ""
        log_malformed(ValueError("a bug"))
        assert "ValueError: a bug" in json.loads(capsys.readouterr().err)["exception"]
    finally:
        logging.getLogger().handlers.clear()


def log_malformed(error: Exception) -> None:
    try:
        raise error
    except Exception:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", "127.0.0.1")


async def test_an_origin_that_is_not_text_may_read_nothing(aiohttp_client):
    from shared.http.app import Cors, apply_conventions

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    apply_conventions(app, cors=Cors(credentials=True))
    client = await aiohttp_client(app)
    answer = await client.get("/", headers={"Origin": "http://a.example"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://a.example"
    answer = await client.get("/", headers={"Origin": "http://ä.example"})
    assert (answer.status, "Access-Control-Allow-Origin" in answer.headers) == (200, False)
