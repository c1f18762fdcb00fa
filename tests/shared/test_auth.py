"""Where a credential may stand in a request."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from shared.auth import bearer_token, equal, generate_key, request_key


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer s3cret", "s3cret"),
        ("bearer  s3cret ", "s3cret"),
        ("s3cret", "s3cret"),
        ("Basic dTpw", "Basic dTpw"),
        ("Bearer", "Bearer"),
        ("", None),
    ],
)
def test_the_authorization_header_carries_a_token_with_or_without_its_scheme(header: str, token: str | None):
    assert bearer_token(make_mocked_request("GET", "/", {"Authorization": header})) == token


def test_a_key_is_looked_for_in_the_query_then_the_header_then_the_cookie():
    places = {"query": "token", "header": "X-Key", "cookie": "session"}
    headers = {"X-Key": "from header", "Cookie": "session=from-cookie"}
    assert request_key(make_mocked_request("GET", "/?token=from-query", headers), **places) == "from-query"
    assert request_key(make_mocked_request("GET", "/?token=", headers), **places) == "from header"
    assert request_key(make_mocked_request("GET", "/", {"Cookie": "session=c"}), **places) == "c"
    assert request_key(make_mocked_request("GET", "/"), **places) is None


def test_secrets_are_equal_only_when_they_are_the_same_text():
    assert equal("clé", "clé")
    assert not equal("clé", "cle")


def test_generated_keys_are_long_and_never_the_same():
    keys = {generate_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert min(map(len, keys)) >= 32
