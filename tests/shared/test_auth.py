"""Where a credential may stand in a request."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from shared.auth import bearer_token, equal, generate_key, offered_keys


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


def test_every_key_that_a_request_offers_is_found_whatever_the_others_are():
    headers = {"X-Key": "header", "Cookie": "X-Key=cookie", "Authorization": "Bearer token"}
    everywhere = make_mocked_request("GET", "/?X-Key=query", headers)
    assert list(offered_keys(everywhere, "X-Key")) == ["query", "header", "cookie", "token"]
    assert list(offered_keys(make_mocked_request("GET", "/?X-Key=", {"X-Key": "header"}), "X-Key")) == ["header"]
    assert list(offered_keys(make_mocked_request("GET", "/"), "X-Key")) == []


def test_secrets_are_equal_only_when_they_are_the_same_text():
    assert equal("clé", "clé")
    assert not equal("clé", "cle")


def test_generated_keys_are_long_and_never_the_same():
    keys = {generate_key() for _ in range(1000)}
    assert len(keys) == 1000
    assert min(map(len, keys)) >= 32
