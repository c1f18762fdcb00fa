"""A JSON value that knows where in its document it stands, so that every complaint names the place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import orjson

T = TypeVar("T")


class DocumentError(ValueError):
    """The configuration is invalid. The message begins with the path of what is wrong.

    Attributes:
        path: Place in the document, empty for the document as a whole.
    """

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)


class Node:
    """A JSON value of the document together with its path; every reader names the path it fails at."""

    __slots__ = ("path", "value")

    def __init__(self, path: str, value: Any) -> None:
        self.path = path
        self.value = value

    @property
    def found(self) -> str:
        """The value, shortened for a message."""
        text = orjson.dumps(self.value).decode()
        return text if len(text) <= 60 else text[:57] + "..."

    def wrong(self, expected: str) -> DocumentError:
        """The error for a value of another kind."""
        return DocumentError(self.path, f"expected {expected}, found {self.found}")

    def entries(self) -> dict[str, Any]:
        """The members of an object."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        return self.value

    def get(self, name: str) -> Node | None:
        """A member, `None` when it is absent or null."""
        value = self.entries().get(name)
        return None if value is None else Node(f"{self.path}.{name}" if self.path else name, value)

    def need(self, name: str) -> Node:
        """A member that must be there."""
        member = self.get(name)
        if member is None:
            raise DocumentError(self.path, f"'{name}' is missing")
        return member

    def optional(self, name: str, read: Callable[[Node], T], default: T) -> T:
        """What `read` makes of a member, or the default."""
        member = self.get(name)
        return default if member is None else read(member)

    def items(self) -> Iterator[Node]:
        """The elements of an array."""
        if not isinstance(self.value, list):
            raise self.wrong("an array")
        return (Node(f"{self.path}[{index}]", item) for index, item in enumerate(self.value))

    def list(self, name: str) -> Iterator[Node]:
        """The elements of an array member; none when it is absent."""
        member = self.get(name)
        return iter(()) if member is None else member.items()

    def mapping(self, name: str) -> Iterator[tuple[str, Node]]:
        """Names and values of an object member; none when it is absent."""
        member = self.get(name)
        if member is None:
            return iter(())
        return ((key, Node(f"{member.path}.{key}", item)) for key, item in member.entries().items())

    def text(self, minimum: int = 0) -> str:
        """A string of at least so many characters."""
        if not isinstance(self.value, str):
            raise self.wrong("a string")
        if len(self.value) < minimum:
            raise self.wrong("a string that is not empty")
        return self.value

    def flag(self) -> bool:
        """A boolean."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def integer(self, minimum: int | None = None) -> int:
        """An integer."""
        if type(self.value) is not int:
            raise self.wrong("an integer")
        if minimum is not None and self.value < minimum:
            raise self.wrong(f"an integer of at least {minimum}")
        return self.value

    def number(self) -> float:
        """A number."""
        if type(self.value) not in (int, float):
            raise self.wrong("a number")
        return float(self.value)

    def percent(self) -> float:
        """A number from 0 to 100."""
        if not 0 <= self.number() <= 100:
            raise self.wrong("a number from 0 to 100")
        return self.number()

    def one_of(self, *choices: str) -> str:
        """One of some words."""
        if self.value not in choices:
            raise self.wrong("one of " + ", ".join(choices))
        return str(self.value)
