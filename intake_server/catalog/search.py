"""Plain-text search over the descriptions of entries (protocol §3.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intake_server.errors import kind_of

MAX_DEPTH = 8
MAX_TEXT = 1000
DEFAULT_DEPTH = 2


class MalformedQuery(Exception):  # noqa: N818 - the caller's mistake, answered as 400
    """The query is not one that the default search takes."""


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for.

    Attributes:
        text: Words; an entry matches when any of them occurs in its description.
        depth: How many levels of catalogs to look at; 1 stays in the catalog itself.
    """

    text: str
    depth: int = DEFAULT_DEPTH

    @classmethod
    def parse(cls, value: Any) -> Query:
        """Read the ``query`` of a request: a pair of positional and named arguments of ``search(text, depth=2)``.

        Raises:
            MalformedQuery: It has another shape, unknown arguments, or arguments of another type.
        """
        if not (
            isinstance(value, list) and len(value) == 2 and isinstance(value[0], list) and isinstance(value[1], dict)
        ):
            raise MalformedQuery("query: expected a pair of a list and a map")
        positional, named = value
        if len(positional) > 2:
            raise MalformedQuery(f"search() takes 1 to 2 arguments but {len(positional)} were given")
        arguments: dict[str, Any] = dict(zip(("text", "depth"), positional, strict=False))
        for name, argument in named.items():
            if name not in ("text", "depth"):
                raise MalformedQuery(f"search() got an unexpected keyword argument {name!r}")
            if name in arguments:
                raise MalformedQuery(f"search() got multiple values for argument {name!r}")
            arguments[name] = argument
        return cls._checked(arguments)

    @classmethod
    def _checked(cls, arguments: Mapping[str, Any]) -> Query:
        if "text" not in arguments:
            raise MalformedQuery("search() missing 1 required argument: 'text'")
        text, depth = arguments["text"], arguments.get("depth", DEFAULT_DEPTH)
        if not isinstance(text, str):
            raise MalformedQuery(f"search(): text: expected a text, found {kind_of(text)}")
        if len(text) > MAX_TEXT:
            raise MalformedQuery(f"search(): text is longer than {MAX_TEXT} characters")
        if isinstance(depth, bool) or not isinstance(depth, int):
            raise MalformedQuery(f"search(): depth: expected an integer, found {kind_of(depth)}")
        return cls(text, min(depth, MAX_DEPTH))

    @property
    def words(self) -> tuple[str, ...]:
        """The words to look for, in lower case."""
        return tuple(self.text.lower().split())


def haystack(description: Mapping[str, Any]) -> str:
    """The text in which words are looked for: the description's values, in lower case."""
    return str(list(description.values())).lower()


def matches(text: str, words: Sequence[str]) -> bool:
    """Whether any of the words occurs in an entry's `haystack`; no words match nothing."""
    return any(word in text for word in words)


def results_metadata(metadata: Mapping[Any, Any], query: Query, upstream: str) -> dict[Any, Any]:
    """The metadata of a catalog of results: the searched catalog's own, and what was searched."""
    return {**metadata, "search": {"text": query.text, "upstream": upstream}}
