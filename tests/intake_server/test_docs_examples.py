"""The examples in the documentation that read the catalog which `scripts/start` serves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from scripts.example.datasets import write_datasets
from tests.intake_server.conftest import Serve

DOCS = (Path(__file__).parents[2] / "docs" / "intake_server.md").read_text(encoding="utf-8")
ADDRESSES = re.findall(r"http://127\.0\.0\.1:5000(/data/[^\s'\")]+)", DOCS)
EXAMPLE = re.search(r"\$ curl 'http://127\.0\.0\.1:5000(/data/[^']+)'\n(.*?)```", DOCS, re.DOTALL)


@pytest.mark.parametrize("address", ADDRESSES)
async def test_addresses_in_the_documentation_name_what_the_example_has(serve: Serve, tmp_path: Path, address: str):
    server = await serve(paths=(write_datasets(tmp_path / "datasets"),))
    answer = await server.get(address)
    assert (answer.status, answer.reason) == (200, "OK")


async def test_the_documented_answer_is_the_answer(serve: Serve, tmp_path: Path):
    assert EXAMPLE is not None
    address, documented = EXAMPLE.groups()
    server = await serve(paths=(write_datasets(tmp_path / "datasets"),))
    assert (await server.get(address)).body.decode() == documented
