"""Experiments, metrics and what was counted, as the report talks about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

from iserver.report.statistics import Sample


class ReportError(Exception):
    """The report cannot be made; the text is the one line that the reader gets."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant of an experiment.

    Attributes:
        name: `control` for the control variant.
    """

    id: str
    name: str
    weight: float
    is_control: bool


@dataclass(frozen=True, slots=True)
class ReportedExperiment:
    """An experiment as the metadata tables describe it.

    Attributes:
        variants: The control variant first.
        features: FDL names of the features that its variants change.
    """

    id: str
    name: str
    state: str
    variants: tuple[Variant, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """`event:Rating` counts visitors with such an event; `event:Purchase.value` sums a field over a visitor's events.

    Attributes:
        event: FDL name of the event, or of an abstract event: then all events that import it.
        field: FDL name of the field to sum; `None` for the share of visitors with at least one event.
    """

    event: str
    field: str | None = None

    @classmethod
    def parse(cls, text: str) -> Metric:
        """Read `event:NAME` or `event:NAME.FIELD`.

        Raises:
            ReportError: It is neither.
        """
        kind, _, path = text.partition(":")
        event, _, field = path.partition(".")
        if kind != "event" or not event or ("." in path and not field):
            raise ReportError(f"unknown metric {text!r}: expected event:NAME or event:NAME.FIELD")
        return cls(event, field or None)

    @property
    def is_rate(self) -> bool:
        """Whether its mean is a share of visitors."""
        return self.field is None

    def __str__(self) -> str:
        return f"event:{self.event}" + (f".{self.field}" if self.field else "")


@dataclass(frozen=True, slots=True)
class Day:
    """What was known at the end of one day: a sample per variant id."""

    day: date
    samples: Mapping[str, Sample]


@dataclass(frozen=True, slots=True)
class Exposure:
    """Who was exposed.

    Attributes:
        counts: Visitors by variant id.
        mixed: Visitors excluded because they were exposed to more than one variant.
    """

    counts: Mapping[str, int]
    mixed: int


class ReportTables(Protocol):
    """Where the numbers come from: `iserver.report.warehouse_tables`."""

    def experiments(self) -> list[ReportedExperiment]: ...
    def expose(self, experiment: ReportedExperiment) -> Exposure: ...
    def days(self, experiment: ReportedExperiment, metric: Metric | None) -> Sequence[Day]: ...
