"""The formats in which data can be had over plain HTTP, and which one a request means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class NotAvailable(Exception):  # noqa: N818 - answered as 406
    """The data cannot be had in any of the formats asked for; the text says which there are."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    Attributes:
        name: Its name and its suffix.
        media_type: Its media type.
        containers: What can be written in it.
        also: Further media types by which it may be asked for.
        is_text: Whether it shrinks when it is compressed.
        is_stored: Whether it is made as a whole before it is sent, so that ranges of it can be had.
    """

    name: str
    media_type: str
    containers: frozenset[str]
    also: tuple[str, ...] = ()
    is_text: bool = False
    is_stored: bool = False


_FRAME, _ARRAY, _LIST, _DATA_SET = "dataframe", "ndarray", "python", "xarray"

FORMATS = (
    Format("csv", "text/csv", frozenset({_FRAME, _ARRAY}), is_text=True),
    Format("npy", "application/x-npy", frozenset({_ARRAY}), ("application/octet-stream",), is_stored=True),
    Format(
        "jsonl",
        "application/x-ndjson",
        frozenset({_FRAME, _LIST}),
        ("application/jsonl", "application/x-jsonlines", "application/json-lines"),
        is_text=True,
    ),
    Format(
        "parquet",
        "application/vnd.apache.parquet",
        frozenset({_FRAME}),
        ("application/x-parquet", "application/parquet"),
        is_stored=True,
    ),
    Format("arrow", "application/vnd.apache.arrow.stream", frozenset({_FRAME})),
    Format("json", "application/json", frozenset({_FRAME, _ARRAY, _LIST}), is_text=True),
    Format("txt", "text/plain", frozenset({_LIST}), is_text=True),
    Format("png", "image/png", frozenset({_FRAME, _ARRAY}), is_stored=True),
)
"""In the order of preference: the first that fits is taken when a request leaves the choice to us."""

_BY_NAME = {form.name: form for form in FORMATS}
_PREFERRED = {_FRAME: "csv", _ARRAY: "npy", _LIST: "jsonl"}


def offered(container: str) -> tuple[Format, ...]:
    """The formats of a container, the one given by default first; none for a container that has no plain form."""
    container = _ARRAY if container == _DATA_SET else container  # one variable of it is sent
    first = _PREFERRED.get(container)
    fitting = [form for form in FORMATS if container in form.containers]
    return tuple(sorted(fitting, key=lambda form: form.name != first))


def by_suffix(name: str) -> tuple[str, Format] | None:
    """A name without its suffix, and the format that the suffix names; None when it names none.

    >>> by_suffix("prices.parquet")[0]
    'prices'
    """
    stem, dot, suffix = name.rpartition(".")
    form = _BY_NAME.get(suffix.lower())
    return (stem, form) if dot and stem and form is not None else None


def by_name(name: str) -> Format:
    """The format of a name, as in ``?format=parquet``.

    Raises:
        NotAvailable: There is none.
    """
    form = _BY_NAME.get(name.lower())
    if form is None:
        raise NotAvailable(f"format: there is no format {name[:40]!r}, only {', '.join(_BY_NAME)}")
    return form


def choose(container: str, named: Format | None, accept: str) -> Format:
    """The format of an answer.

    Args:
        container: What the data are.
        named: The format that the address names, which goes before what the client accepts.
        accept: The ``Accept`` header, empty when there is none.

    Raises:
        NotAvailable: None of them fits the data.
    """
    forms = offered(container)
    if named is not None:
        if named not in forms:
            raise NotAvailable(_only(container, forms, f"{named.name} is not possible"))
        return named
    wanted = _parse_accept(accept)
    rated = [(_quality(form, wanted), -position, form) for position, form in enumerate(forms)]
    acceptable = [found for found in rated if found[0] > 0]
    if not acceptable:
        raise NotAvailable(_only(container, forms, "nothing in Accept is possible"))
    return max(acceptable, key=lambda found: found[:2])[2]


def _only(container: str, forms: Sequence[Format], what: str) -> str:
    names = ", ".join(f"{form.name} ({form.media_type})" for form in forms) or "no format at all"
    return f"{what}: a {container} can be had as {names}"


def _parse_accept(header: str) -> list[tuple[str, float]]:
    """Media ranges and their weights; everything when there is no header."""
    ranges = []
    for part in header.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not media:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = min(1.0, max(0.0, float(value)))
                except ValueError:
                    weight = 0.0
        ranges.append((media, weight))
    return ranges or [("*/*", 1.0)]


def _quality(form: Format, wanted: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that a format is in; 0 when it is in none."""
    best = (-1, 0.0)
    for name in (form.media_type, *form.also):
        for media, weight in wanted:
            kind = media.removesuffix("/*")
            if media == name:
                best = max(best, (2, weight))
            elif media != "*/*" and media.endswith("/*") and name.startswith(kind + "/"):
                best = max(best, (1, weight))
            elif media == "*/*":
                best = max(best, (0, weight))
    return best[1]
