"""The answers of `/metrics` and `/metrics/prometheus` (protocol §7.1 to §7.4).

A collector asks every server every few seconds, and most of what it gets has not changed: every entity keeps the text
of its last answer, and it is made anew only when one of its numbers is another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from shared.pegasus.metrics.catalog import Prototype, Role
from shared.pegasus.metrics.entities import PERCENTILES, Entity, Metric, Number, Percentile, Registry
from shared.pegasus.serving.json_format import pretty

HEAD_FIELDS = ("type", "name", "unit", "desc")
ALL_FIELDS = frozenset((*HEAD_FIELDS, "value", *PERCENTILES))
BRIEF_FIELDS = frozenset(("name", "value", *PERCENTILES))
MAX_TEMPLATES = 64


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
) -> tuple[int, bytes]:
    """The answer of `/metrics` (§7).

    Returns:
        The HTTP status, 200 or 400, and the body.
    """
    try:
        query = Query.parse(method, arguments)
    except ValueError as error:
        return 400, pretty({"error_message": str(error)})
    registry.measure(query.selects)
    entities = [text for entity in registry.entities() if query.selects(entity) and (text := _entity(entity, query))]
    head = (
        f'{{\n    "cluster": {_json(who.cluster or "unknown")},\n    "role": {_json(who.role)},\n'
        f'    "host": {_json(who.host)},\n    "port": {who.port},\n'
        f'    "timestamp_ns": {registry.timestamp_ns(now_ns)},\n    "entities": '
    )
    if not entities:
        return 200, head.encode() + b"[]\n}"
    return 200, b"".join((head.encode(), b"[\n        ", b",\n        ".join(entities), b"\n    ]\n}"))


def _entity(entity: Entity, query: Query) -> bytes:
    """The text of an entity; empty when none of its metrics is asked for."""
    wanted = query.metrics.intersection(entity.metrics)  # not all that was named: it is kept, and may be very long
    if query.metrics and not wanted:
        return b""
    asked = (query.fields, wanted)
    metrics: list[Metric] = [*entity.numbers, *entity.distributions]
    numbers, distributions = entity.numbers, entity.distributions
    if query.metrics:
        numbers = [metric for metric in numbers if metric.prototype.name in wanted]
        distributions = [metric for metric in distributions if metric.prototype.name in wanted]
        metrics = [*numbers, *distributions]
    values: list[Number] = [metric.value for metric in numbers] if "value" in query.fields else []
    for distribution in distributions:
        values += [value for kind, value in distribution.results.items() if kind in query.fields]
    if entity.answered is not None and entity.answered[0] == asked and entity.answered[1] == values:
        return entity.answered[2]
    template = entity.templates.get(asked)
    if template is None:
        if len(entity.templates) >= MAX_TEMPLATES:  # whoever asks for something else every time shall not fill memory
            entity.templates.clear()
        template = entity.templates[asked] = ",\n                ".join(_template(one, query.fields) for one in metrics)
    text = _framed(entity, template % tuple(values)).encode() if metrics else b""
    entity.answered = (asked, values, text)
    return text


def _framed(entity: Entity, metrics: str) -> str:
    """The text of an entity around that of its metrics."""
    attributes = ",\n".join(f"                {_json(k)}: {_json(v)}" for k, v in sorted(entity.attributes.items()))
    return (
        f'{{\n            "type": {_json(entity.type)},\n            "id": {_json(entity.id)},\n'
        f'            "attributes": {{{chr(10) + attributes + chr(10) + " " * 12 if attributes else ""}}},\n'
        f'            "metrics": [\n                {metrics}\n            ]\n        }}'
    )


def _template(metric: Metric, fields: frozenset[str]) -> str:
    """The text of a metric, with a place for each of its numbers."""
    prototype = metric.prototype
    head = zip(HEAD_FIELDS, (prototype.kind, prototype.name, prototype.unit, prototype.desc), strict=True)
    members = [f'"{name}": {_json(text).replace("%", "%%")}' for name, text in head if name in fields]
    members += [f'"{name}": %r' for name in metric.values() if name in fields]
    inner = ",\n".join(" " * 20 + member for member in members)
    return f"{{\n{inner}\n{' ' * 16}}}" if members else "{}"


def _json(text: str) -> str:
    return orjson.dumps(text.encode(errors="surrogateescape").decode(errors="replace")).decode()


def prometheus(registry: Registry, who: Identity) -> str:
    """All metrics in Prometheus' text format, with the entity's type, id and attributes as labels."""
    registry.measure(lambda _entity: True)
    families: dict[str, tuple[Prototype, list[str]]] = {}
    for entity in registry.entities():
        labels = {"cluster": who.cluster or "unknown", "role": who.role, "entity": entity.type, **entity.attributes}
        text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
        for name, metric in entity.metrics.items():
            _, lines = families.setdefault(name, (metric.prototype, []))
            if not isinstance(metric, Percentile):
                lines.append(f"pegasus_{name}{{{text}}} {metric.value!r}")
                continue
            for kind, value in metric.results.items():
                lines.append(f'pegasus_{name}{{{text},quantile="{PERCENTILES[kind]}"}} {value!r}')
    kinds = {"Counter": "counter", "Gauge": "gauge", "Percentile": "summary"}
    return "".join(
        f"# HELP pegasus_{name} {_escaped(prototype.desc)}\n# TYPE pegasus_{name} {kinds[prototype.kind]}\n"
        + "\n".join(lines)
        + "\n"
        for name, (prototype, lines) in sorted(families.items())
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
