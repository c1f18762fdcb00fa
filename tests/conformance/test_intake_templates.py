"""Templates that compute with parameters: what the classic code of intake 0.7.0 makes of them, ours makes as well."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from tests.conformance.environments import client_python, run_client
from tests.intake_server.templates.test_caller_text import COMPUTED, HERE

SCRIPT = """
import json, sys
from intake.catalog.local import UserParameter
from intake.catalog.utils import merge_pars
results = []
for template, kind, value in json.loads(sys.argv[1]):
    parameter = UserParameter("p", "d", kind)
    params = {"urlpath": template, "CATALOG_DIR": sys.argv[2]}
    results.append(merge_pars(params, {"p": value}, [parameter])["urlpath"])
print(json.dumps(results))
"""
OURS = ("'yes' if p else 'no'",)
"""Where ours differs on purpose: words such as ``false`` are read as what they say."""


def test_the_classic_code_renders_the_same():
    python = client_python("intake-may-2023")
    table = [row for row in COMPUTED if not any(text in row[0] for text in OURS) and row[2] is not None]
    given: list[list[Any]] = [
        [template, kind, value.isoformat() if isinstance(value, datetime) else value]
        for template, kind, value, _ in table
    ]
    printed = run_client(python, SCRIPT, json.dumps(given), HERE)
    results = json.loads(printed.splitlines()[-1])
    assert dict(zip((row[0] for row in table), results, strict=True)) == {row[0]: row[3] for row in table}
