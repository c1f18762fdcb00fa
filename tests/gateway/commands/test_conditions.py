"""Conditions as people type them; `tests/gateway/pages/test_page.py` holds the page to the same table."""

from __future__ import annotations

import pytest

from gateway.commands.conditions import read_conditions
from tests.gateway.commands.conditions import RIGHT, WRONG


@pytest.mark.parametrize("text", RIGHT)
def test_conditions_are_written_as_people_think_them(text: str):
    assert read_conditions(text) == RIGHT[text]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_condition_is_told(text: str):
    with pytest.raises(ValueError, match=r"is no (condition|value|list)"):
        read_conditions(text)
