"""The published OpenFeature providers against an iserver started by its command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.browser import chromium, site
from tests.conformance.environments import client_python, run_client
from tests.conformance.iserver_clients import openfeature_node_client, openfeature_page
from tests.processes import DaemonProcess, start_daemon

EXAMPLE = Path(str(resources.files("iserver.example"))) / "shop.json"

SCRIPT = """
import json, sys
from openfeature import api
from openfeature.contrib.provider.ofrep import OFREPProvider
from openfeature.evaluation_context import EvaluationContext

api.set_provider(OFREPProvider(base_url=sys.argv[1]))
client = api.get_client()
context = EvaluationContext("dev-1", {"product": "iPhone", "query": "shoes", "channel": "email"})

def seen(details):
    return [details.value, details.reason and str(details.reason), details.error_code and details.error_code.value]

print(json.dumps({
    "on": seen(client.get_boolean_details("RatingBox", False, context)),
    "off": seen(client.get_boolean_details("NewCheckout", True, context)),
    "button": seen(client.get_string_details("RatingBox.actionButton", "?", context)),
    "unknown": seen(client.get_string_details("Nothing", "?", context)),
    "no key": seen(client.get_boolean_details("RatingBox", False, EvaluationContext(None, {"product": "p"}))),
}))
"""


@pytest.fixture
def iserver(tmp_path: Path) -> Iterator[DaemonProcess]:
    config = tmp_path / "shop.json"
    config.write_bytes(EXAMPLE.read_bytes())
    with start_daemon("iserver", "--config", config, "--data-dir", tmp_path / "data", "--token", "t0ken") as daemon:
        yield daemon


SEEN = {
    "on": [True, "STATIC", None],
    "off": [False, "SPLIT", None],
    "button": ["Submit", "SPLIT", None],
    "unknown": ["?", "ERROR", "FLAG_NOT_FOUND"],
    "no key": [False, "ERROR", "TARGETING_KEY_MISSING"],
}


def test_the_python_provider_evaluates_features_and_outputs(iserver):
    python = client_python("openfeature")
    seen = json.loads(run_client(python, SCRIPT, iserver.url.removesuffix("/iserver")))
    assert seen == SEEN


def test_the_node_provider_evaluates_features_and_outputs(iserver):
    command = [*openfeature_node_client(), iserver.url.removesuffix("/iserver")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == SEEN


async def test_the_web_provider_follows_changes_in_a_browser_and_is_told_when_there_are_none(iserver, tmp_path):
    server = iserver.url.removesuffix("/iserver")
    statuses: list[int] = []
    with site(openfeature_page()) as origin:
        async with chromium() as browser:
            page = await browser.new_page()
            page.on(
                "response", lambda answer: statuses.append(answer.status) if answer.url.startswith(server) else None
            )
            await page.goto(f"{origin}/index.html?server={server}")
            await page.wait_for_function("window.look")
            assert await page.evaluate("look()") == {name: SEEN[name] for name in ("on", "off", "button", "unknown")}
            async with page.expect_response(lambda answer: answer.status == 304):
                pass
            document = json.loads(EXAMPLE.read_bytes())
            document["features"]["RatingBox"]["gate"] = {"active": False}
            (tmp_path / "shop.json").write_text(json.dumps(document))
            await page.wait_for_function("changed.includes('RatingBox')")
            seen = await page.evaluate("look()")
    assert (seen["on"], seen["button"]) == ([False, "DISABLED", None], ["Send Review", "DISABLED", None])
    assert set(statuses) == {200, 304}
