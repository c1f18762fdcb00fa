"""The published OpenFeature providers against an iserver started by its command."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest

from tests.conformance.environments import client_python, run_client
from tests.conformance.iserver_clients import openfeature_node_client
from tests.processes import DaemonProcess, start_daemon

EXAMPLE = Path(str(resources.files("iserver.example"))) / "shop.json"
REQUIREMENTS = ("openfeature-sdk>=0.8", "openfeature-provider-ofrep>=0.1")

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
    with start_daemon("iserver", "--config", EXAMPLE, "--data-dir", tmp_path) as daemon:
        yield daemon


SEEN = {
    "on": [True, "STATIC", None],
    "off": [False, "DISABLED", None],
    "button": ["Submit", "SPLIT", None],
    "unknown": ["?", "ERROR", "FLAG_NOT_FOUND"],
    "no key": [False, "ERROR", "TARGETING_KEY_MISSING"],
}


def test_the_python_provider_evaluates_features_and_outputs(iserver):
    python = client_python("openfeature", *REQUIREMENTS)
    seen = json.loads(run_client(python, SCRIPT, iserver.url.removesuffix("/iserver")))
    assert seen == SEEN


def test_the_node_provider_evaluates_features_and_outputs(iserver):
    command = [*openfeature_node_client(), iserver.url.removesuffix("/iserver")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout) == SEEN
