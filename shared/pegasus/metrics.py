"""Metric entities, their values, and the answer of `/metrics` (specification §7).

Values live where they are counted: whoever owns an entity keeps its metrics and changes them in place,
and a query reads them. The registry knows no clock: whoever asks passes the time.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import orjson

from shared.pegasus.metric_catalog import Prototype, Role, prototypes

WINDOW = 4096
PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
HEAD_FIELDS = ("type", "name", "unit", "desc")
ALL_FIELDS = frozenset((*HEAD_FIELDS, "value", *PERCENTILES))
BRIEF_FIELDS = frozenset(("name", "value", *PERCENTILES))


class Counter:
    """A number that only grows, until the process ends."""

    __slots__ = ("prototype", "value")

    def __init__(self, prototype: Prototype) -> None:
        self.prototype = prototype
        self.value = 0

    def values(self) -> dict[str, int | float]:
        """The fields that hold numbers."""
        return {"value": self.value}


class Gauge:
    """A number that is set."""

    __slots__ = ("prototype", "value")

    def __init__(self, prototype: Prototype) -> None:
        self.prototype = prototype
        self.value: int | float = 0

    def values(self) -> dict[str, int | float]:
        """The fields that hold numbers."""
        return {"value": self.value}


class Percentile:
    """The distribution of the last `WINDOW` samples, as it was when it was last computed (§7.5)."""

    __slots__ = ("_changed", "_next", "_samples", "prototype", "results")

    def __init__(self, prototype: Prototype, kinds: Sequence[str] = tuple(PERCENTILES)) -> None:
        self.prototype = prototype
        self.results: dict[str, int | float] = dict.fromkeys(kinds, 0)
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

    def values(self) -> dict[str, int | float]:
        """The fields that hold numbers."""
        return self.results


Metric = Counter | Gauge | Percentile
M = TypeVar("M", Counter, Gauge, Percentile)
_CLASSES: dict[str, Callable[[Prototype], Metric]] = {"Counter": Counter, "Gauge": Gauge, "Percentile": Percentile}


class Entity:
    """What metrics are about: a server, a replica, a disk, … (§7.6).

    Attributes:
        type: The entity type, such as ``replica``.
        id: Unique, such as ``replica@2.0``.
        attributes: Texts to filter and label by.
        metrics: Its metrics by name.
        retired_s: When its object went away, None while it lives.
    """

    __slots__ = ("attributes", "id", "metrics", "retired_s", "type")

    def __init__(self, type: str, id: str, attributes: Mapping[str, str], metrics: Sequence[Metric]) -> None:
        self.type = type
        self.id = id
        self.attributes = dict(attributes)
        self.metrics = {metric.prototype.name: metric for metric in metrics}
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
        before_query: Called before every query, to set gauges that are measured rather than counted.
    """

    def __init__(self, role: Role) -> None:
        self.role: Role = role
        self.before_query: list[Callable[[], None]] = []
        self._entities: dict[str, Entity] = {}
        self._last_ns = 0

    def entity(self, type: str, id: str, attributes: Mapping[str, str] | None = None) -> Entity:
        """The entity of an id, created with all metrics of its type when there is none.

        A retired one that has not disappeared yet lives again, and its counters continue.
        """
        found = self._entities.get(id)
        if found is None:
            metrics = [_CLASSES[prototype.kind](prototype) for prototype in prototypes(type, self.role)]
            found = self._entities[id] = Entity(type, id, attributes or {}, metrics)
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


@dataclass(frozen=True, slots=True)
class Query:
    """What a request asks for (§7.1 to §7.3); empty sets do not filter."""

    types: frozenset[str] = frozenset()
    ids: frozenset[str] = frozenset()
    attributes: frozenset[tuple[str, str]] = frozenset()
    metrics: frozenset[str] = frozenset()
    fields: frozenset[str] = BRIEF_FIELDS

    @classmethod
    def parse(cls, method: str, arguments: Mapping[str, str]) -> Query:
        """Read the arguments of a request.

        Args:
            method: The HTTP method.
            arguments: The decoded query; a flag has the value "".

        Raises:
            ValueError: The request is not allowed; the text is the ``error_message`` of the answer.
        """
        if method != "GET":
            raise ValueError("please use 'GET' method while querying for metrics")
        lists: dict[str, list[str]] = {}
        detail = False
        for name, value in arguments.items():
            if name in ("with_metric_fields", "types", "ids", "attributes", "metrics"):
                lists[name] = [item for piece in value.split(",") if (item := piece.strip())]
            elif name == "detail":
                if value.lower() not in ("true", "false"):
                    raise ValueError("the value of detail should be a boolean value, i.e. true or false")
                detail = value.lower() == "true"
            else:
                raise ValueError(f"unknown field {name}={value}")
        pairs = lists.get("attributes", [])
        if len(pairs) % 2:
            raise ValueError(
                "the number of arguments for attributes should be even, "
                "since each attribute name always pairs with a value"
            )
        fields = ALL_FIELDS if detail else BRIEF_FIELDS
        if "with_metric_fields" in lists:
            fields = frozenset(lists["with_metric_fields"]) or ALL_FIELDS
        return cls(
            types=frozenset(lists.get("types", ())),
            ids=frozenset(lists.get("ids", ())),
            attributes=frozenset(zip(pairs[::2], pairs[1::2], strict=True)),
            metrics=frozenset(lists.get("metrics", ())),
            fields=fields & ALL_FIELDS,
        )

    def selects(self, entity: Entity) -> bool:
        """Whether an entity passes the filters of type, id and attributes."""
        return (
            (not self.types or entity.type in self.types)
            and (not self.ids or entity.id in self.ids)
            and (not self.attributes or not self.attributes.isdisjoint(entity.attributes.items()))
        )


@dataclass(frozen=True, slots=True)
class Identity:
    """Who answers a query."""

    cluster: str
    role: Role
    host: str
    port: int


def answer(
    registry: Registry, method: str, arguments: Mapping[str, str], who: Identity, now_ns: int
) -> tuple[int, str]:
    """The answer of `/metrics` (§7).

    Returns:
        The HTTP status, 200 or 400, and the body.
    """
    try:
        query = Query.parse(method, arguments)
    except ValueError as error:
        return 400, f'{{\n    "error_message": {_json(str(error))}\n}}'
    for refresh in registry.before_query:
        refresh()
    entities = [text for entity in registry.entities() if query.selects(entity) and (text := _entity(entity, query))]
    listed = "[\n        " + ",\n        ".join(entities) + "\n    ]" if entities else "[]"
    return 200, (
        f'{{\n    "cluster": {_json(who.cluster or "unknown")},\n    "role": {_json(who.role)},\n'
        f'    "host": {_json(who.host)},\n    "port": {who.port},\n'
        f'    "timestamp_ns": {registry.timestamp_ns(now_ns)},\n    "entities": {listed}\n}}'
    )


def _entity(entity: Entity, query: Query) -> str:
    """The text of an entity; empty when none of its metrics is asked for."""
    metrics: list[Metric] = (
        [metric for name, metric in entity.metrics.items() if name in query.metrics]
        if query.metrics
        else list(entity.metrics.values())
    )
    if not metrics:
        return ""
    attributes = ",\n".join(f"                {_json(k)}: {_json(v)}" for k, v in sorted(entity.attributes.items()))
    listed = ",\n                ".join([_metric(metric, query.fields) for metric in metrics])
    return (
        f'{{\n            "type": {_json(entity.type)},\n            "id": {_json(entity.id)},\n'
        f'            "attributes": {{{chr(10) + attributes + chr(10) + " " * 12 if attributes else ""}}},\n'
        f'            "metrics": [\n                {listed}\n            ]\n        }}'
    )


def _metric(metric: Metric, fields: frozenset[str]) -> str:
    templates = metric.prototype.templates
    values = metric.values()
    chosen = (fields, len(values))
    template = templates.get(chosen)
    if template is None:
        template = templates[chosen] = _template(metric.prototype, fields, values)
    return template % values


def _template(prototype: Prototype, fields: frozenset[str], values: Mapping[str, int | float]) -> str:
    head = zip(HEAD_FIELDS, (prototype.kind, prototype.name, prototype.unit, prototype.desc), strict=True)
    members = [f'"{name}": {_json(text).replace("%", "%%")}' for name, text in head if name in fields]
    members += [f'"{name}": %({name})r' for name in values if name in fields]
    inner = ",\n".join(" " * 20 + member for member in members)
    return f"{{\n{inner}\n{' ' * 16}}}" if members else "{}"


def _json(text: str) -> str:
    return orjson.dumps(text).decode()


def prometheus(registry: Registry, who: Identity) -> str:
    """All metrics in Prometheus' text format, with the entity's type, id and attributes as labels."""
    for refresh in registry.before_query:
        refresh()
    families: dict[str, tuple[Prototype, list[str]]] = {}
    for entity in registry.entities():
        labels = {"cluster": who.cluster or "unknown", "role": who.role, "entity": entity.type, **entity.attributes}
        text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        for name, metric in entity.metrics.items():
            _, lines = families.setdefault(name, (metric.prototype, []))
            for field, value in metric.values().items():
                quantile = f',quantile="{PERCENTILES[field]}"' if field in PERCENTILES else ""
                lines.append(f"pegasus_{name}{{{text}{quantile}}} {value!r}")
    kinds = {"Counter": "counter", "Gauge": "gauge", "Percentile": "summary"}
    return "".join(
        f"# HELP pegasus_{name} {_escaped(prototype.desc)}\n# TYPE pegasus_{name} {kinds[prototype.kind]}\n"
        + "\n".join(lines)
        + "\n"
        for name, (prototype, lines) in sorted(families.items())
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
