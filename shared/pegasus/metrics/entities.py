"""Metric entities and their values (protocol §7.5, §7.6).

Values live where they are counted: whoever owns an entity keeps its metrics and changes them in place,
and a query reads them; `metric_query` answers it. The registry knows no clock: whoever asks passes the time.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from shared.pegasus.metrics.catalog import Prototype, Role, prototypes

WINDOW = 4096
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}

Number = int | float


class Counter:
    """A number that only grows, until the process ends."""

    __slots__ = ("prototype", "value")

    def __init__(self, prototype: Prototype) -> None:
        self.prototype = prototype
        self.value = 0

    def values(self) -> dict[str, Number]:
        """The fields that hold numbers."""
        return {"value": self.value}


class Gauge:
    """A number that is set."""

    __slots__ = ("prototype", "value")

    def __init__(self, prototype: Prototype) -> None:
        self.prototype = prototype
        self.value: Number = 0

    def values(self) -> dict[str, Number]:
        """The fields that hold numbers."""
        return {"value": self.value}


class Percentile:
    """The distribution of the last `WINDOW` samples, as it was when it was last computed (§7.5)."""

    __slots__ = ("_changed", "_next", "_samples", "prototype", "results")

    def __init__(self, prototype: Prototype, kinds: Sequence[str] = tuple(PERCENTILES)) -> None:
        self.prototype = prototype
        self.results: dict[str, Number] = dict.fromkeys(kinds, 0)
        self._samples = array.array("q")
        self._next = 0
        self._changed = False

    def observe(self, sample: int) -> None:
        """Add a sample; the oldest is forgotten once there are `WINDOW`."""
        self._changed = True
        if len(self._samples) < WINDOW:
            self._samples.append(sample)
        else:
            self._samples[self._next] = sample
            self._next = (self._next + 1) % WINDOW

    def observe_all(self, samples: Sequence[int]) -> None:
        """Add samples, as `observe` adds one."""
        end = self._next + len(samples)
        if len(self._samples) < WINDOW or end >= WINDOW:
            for sample in samples:
                self.observe(sample)
            return
        self._changed = True
        self._samples[self._next : end] = array.array("q", samples)
        self._next = end

    def compute(self) -> bool:
        """Publish the percentiles of the samples present.

        Returns:
            Whether there was anything new to compute.
        """
        if not self._changed:
            return False
        self._changed = False
        count = len(self._samples)
        at = {kind: int(count * PERCENTILES[kind]) for kind in self.results}
        ordered = np.partition(np.array(self._samples, dtype=np.int64), sorted(set(at.values())))
        for kind, index in at.items():
            self.results[kind] = int(ordered[index])
        return True

    def values(self) -> dict[str, Number]:
        """The fields that hold numbers."""
        return self.results


Metric = Counter | Gauge | Percentile
Asked = tuple[frozenset[str], frozenset[str]]
"""The fields and the metrics that a query asks for."""
M = TypeVar("M", Counter, Gauge, Percentile)
_CLASSES: dict[str, Callable[[Prototype], Metric]] = {"Counter": Counter, "Gauge": Gauge, "Percentile": Percentile}


class Entity:
    """What metrics are about: a server, a replica, a disk, … (§7.6).

    Attributes:
        type: The entity type, such as ``replica``.
        id: Unique, such as ``replica@2.0``.
        attributes: Texts to filter and label by.
        metrics: Its metrics by name.
        numbers: Those that are one number.
        distributions: The others; they are shown last.
        retired_s: When its object went away, None while it lives.
        templates: Texts to put numbers in, by what was asked for; shared by the entities of a type.
        answered: What was asked for last, the numbers then, and the text.
    """

    __slots__ = (
        "answered",
        "attributes",
        "distributions",
        "id",
        "metrics",
        "numbers",
        "retired_s",
        "templates",
        "type",
    )

    def __init__(
        self,
        type: str,
        id: str,
        attributes: Mapping[str, str],
        metrics: Sequence[Metric],
        templates: dict[Asked, str] | None = None,
    ) -> None:
        self.type = type
        self.id = id
        self.attributes = dict(attributes)
        self.metrics = {metric.prototype.name: metric for metric in metrics}
        self.numbers = [metric for metric in metrics if not isinstance(metric, Percentile)]
        self.distributions = [metric for metric in metrics if isinstance(metric, Percentile)]
        self.templates = {} if templates is None else templates
        self.answered: tuple[Asked, list[Number], bytes] | None = None
        self.retired_s: float | None = None

    def counter(self, name: str) -> Counter:
        """The counter of a name; `KeyError` or `TypeError` when there is none."""
        return _expect(Counter, self.metrics[name])

    def gauge(self, name: str) -> Gauge:
        """The gauge of a name; `KeyError` or `TypeError` when there is none."""
        return _expect(Gauge, self.metrics[name])

    def percentile(self, name: str) -> Percentile:
        """The percentile of a name; `KeyError` or `TypeError` when there is none."""
        return _expect(Percentile, self.metrics[name])


def _expect(kind: type[M], metric: Metric) -> M:
    if not isinstance(metric, kind):
        raise TypeError(f"{metric.prototype.name} is a {metric.prototype.kind}, not a {kind.__name__}")
    return metric


class Registry:
    """All entities of a daemon.

    Attributes:
        role: Which metrics an entity gets.
        before_query: Called before every query, to set gauges that are measured rather than counted; what they are
            called with says whether an entity is asked for.
    """

    def __init__(self, role: Role) -> None:
        self.role: Role = role
        self.before_query: list[Callable[[Callable[[Entity], bool]], None]] = []
        self._entities: dict[str, Entity] = {}
        self._templates: dict[str, dict[Asked, str]] = {}
        self._last_ns = 0

    def entity(self, type: str, id: str, attributes: Mapping[str, str] | None = None) -> Entity:
        """The entity of an id, created with all metrics of its type when there is none.

        A retired one that has not disappeared yet lives again, and its counters continue.
        """
        found = self._entities.get(id)
        if found is None:
            metrics = [_CLASSES[prototype.kind](prototype) for prototype in prototypes(type, self.role)]
            templates = self._templates.setdefault(type, {})
            found = self._entities[id] = Entity(type, id, attributes or {}, metrics, templates)
        found.retired_s = None
        return found

    def add(self, entity: Entity) -> None:
        """Add an entity with metrics of its own."""
        self._entities[entity.id] = entity

    def replica(self, app_id: int, index: int) -> Entity:
        """The entity of a replica on this server."""
        return self.entity("replica", f"replica@{app_id}.{index}", _of_partition(app_id, index))

    def partition(self, app_id: int, index: int) -> Entity:
        """The entity of a partition on the metaserver."""
        return self.entity("partition", f"partition@{app_id}.{index}", _of_partition(app_id, index))

    def table(self, app_id: int) -> Entity:
        """The entity of a table on the metaserver."""
        return self.entity("table", f"table@{app_id}", {"table_id": str(app_id)})

    def server(self) -> Entity:
        """The entity of this daemon itself."""
        return self.entity("server", "server")

    def entities(self) -> list[Entity]:
        """All entities by id, retired ones too."""
        return [self._entities[id] for id in sorted(self._entities)]

    def measure(self, is_asked_for: Callable[[Entity], bool]) -> None:
        """Bring the metrics up to date that are measured, those of some entities at least."""
        for refresh in self.before_query:
            refresh(is_asked_for)

    def retire(self, entity: Entity, now_s: float) -> None:
        """Note that an entity's object is gone; it disappears some time later (`sweep`)."""
        entity.retired_s = now_s

    def sweep(self, now_s: float, delay_s: float) -> int:
        """Forget the entities that were retired at least `delay_s` ago, and say how many."""
        gone = [
            entity.id
            for entity in self._entities.values()
            if entity.retired_s is not None and entity.retired_s + delay_s <= now_s
        ]
        for id in gone:
            del self._entities[id]
        return len(gone)

    def compute_percentiles(self) -> Iterator[None]:
        """Compute every percentile that has new samples, one a step, so that a caller can do other work between."""
        for entity in self.entities():
            for metric in entity.metrics.values():
                if isinstance(metric, Percentile) and metric.compute():
                    yield

    def timestamp_ns(self, now_ns: int) -> int:
        """The time of a sample: `now_ns`, or just after the last sample if the clock has not moved."""
        self._last_ns = max(now_ns, self._last_ns + 1)
        return self._last_ns


def _of_partition(app_id: int, index: int) -> dict[str, str]:
    return {"table_id": str(app_id), "partition_id": str(index)}
