"""Words that only this project understood are not used in names, docstrings, comments and pages.

`LEFT` says which words are still there, and where. Remove a word from it when its last occurrence is gone; add none.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PLACES = ("iserver", "intake_server", "gateway", "metaserver", "replicaserver", "shared", "docs")

INSTEAD = {
    "asker": "caller",
    "chores": "background tasks",
    "crowd": "batch size",
    "express": "fast path",
    "hears": "receives",
    "hosting": "module loader",
    "keeper": "registry",
    "lane": "fast path, queue",
    "located": "lookup result",
    "manners": "request lifecycle",
    "mended": "recovered",
    "mounts": "route groups",
    "observing": "metrics",
    "patience": "header timeout",
    "recipe": "source spec",
    "refusal": "error",
    "shelf": "store",
    "speaker": "protocol handler",
    "trail": "path",
    "unasked": "in the background",
    "upkeep": "maintenance",
    "visit": "feature request",
}
"""Each word and what to write in its place."""

PHRASES = {
    "give way": "yield to the event loop",
    "gives way": "yields to the event loop",
    "passed over": "skipped",
    "nobody watches": "stderr is not a terminal",
}

LEFT: dict[str, set[str]] = {
    "iserver": {"visit"},
    "intake_server": {"recipe", "visit"},
    "gateway": {"visit"},
    "shared": {"express"},
    "docs": {"recipe"},
}
"""The words that still occur, by place."""

_OTHER_NAMES = re.compile(r"zookeeper|regular expression", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


@cache
def occurrences(place: str) -> dict[str, list[str]]:
    """Where each private word and phrase occurs in a package or folder, as `file:line`."""
    suffix = "*.md" if place == "docs" else "*.py"
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / place).rglob(suffix)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for word in private_words(line):
                found.setdefault(word, []).append(f"{path.relative_to(ROOT)}:{number}")
    return found


def private_words(line: str) -> list[str]:
    """The private words and phrases of one line; a name such as `make_express_lane` consists of its words."""
    line = _OTHER_NAMES.sub("", line)
    counts = Counter(word.lower() for word in _WORD.findall(line))
    words = [word for word in INSTEAD for _ in range(counts[word] + counts[f"{word}s"])]
    return words + [phrase for phrase in PHRASES for _ in range(line.lower().count(phrase))]


@pytest.mark.parametrize("place", PLACES)
def test_private_words_do_not_come_back(place: str):
    found = {
        f"{word} (write: {(INSTEAD | PHRASES)[word]})": where
        for word, where in occurrences(place).items()
        if word not in LEFT.get(place, set())
    }
    assert found == {}


@pytest.mark.parametrize("place", PLACES)
def test_words_that_are_gone_are_not_allowed_any_more(place: str):
    assert LEFT.get(place, set()) - occurrences(place).keys() == set()


def test_only_words_of_the_list_are_allowed():
    assert {word for words in LEFT.values() for word in words} <= INSTEAD.keys() | PHRASES.keys()
    assert LEFT.keys() <= set(PLACES)


def test_names_are_split_into_their_words():
    assert private_words("class ExpressLane: refusals = ZooKeeper(make_recipes(trailing, expression))") == [
        "express",
        "lane",
        "recipe",
        "refusal",
    ]
