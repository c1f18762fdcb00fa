"""Every scenario is seen again as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.scenario import FOLDER, play


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_what_is_written_is_what_is_seen(path: Path):
    text = path.read_text(encoding="utf-8")
    assert play(text) == text
