"""From the text of a configuration document to its parts (protocol §9.3).

Whatever is wrong is named by its path, such as `experiments[0].variants[1].weight`. Members that are not
known are ignored.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import orjson

from iserver.document.model import (
    COMPARISONS,
    COUNTS,
    AllOf,
    AnyOf,
    Audience,
    Compare,
    Constant,
    Device,
    Document,
    Environment,
    Experiment,
    External,
    FeatureSettings,
    Gate,
    Happened,
    InAudience,
    Not,
    Override,
    Rollout,
    Rule,
    Settings,
    Value,
    Variant,
    VariantValue,
)
from iserver.document.node import DocumentError, Node
from iserver.document.patterns import PatternError, compile_pattern
from iserver.fdl.model import SourceFile

MAX_DEPTH = 64
"""Deeper JSON is no real configuration, and not every encoder can write it."""


def read_document(text: bytes | str) -> Document:
    """Read a configuration document.

    Raises:
        DocumentError: It is not JSON, or something in it has the wrong shape.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise DocumentError("", f"malformed JSON: {error}") from error
    if not _is_within(value, MAX_DEPTH):
        raise DocumentError("", f"the document is nested more than {MAX_DEPTH} deep")
    root = Node("", value)
    root.entries()
    if root.need("schemaVersion").value != 1:
        raise DocumentError("schemaVersion", f"expected 1, found {root.need('schemaVersion').found}")
    qa = root.get("qa")
    return Document(
        revision=root.need("revision").text(minimum=1),
        environment=_environment(root.need("environment")),
        fdl=tuple(_source(item) for item in root.need("fdl").items()),
        settings=root.optional("settings", _settings, Settings()),
        audiences=tuple(_audience(item) for item in root.list("audiences")),
        features={name: _feature(item) for name, item in root.mapping("features")},
        experiments=tuple(_experiment(item) for item in root.list("experiments")),
        devices=tuple(_device(item) for item in qa.list("devices")) if qa else (),
        metrics=tuple(item.value for item in root.list("metrics")),
        raw=root.entries(),
    )


def _is_within(value: object, depth: int) -> bool:
    """Whether a JSON value is nested no deeper than that, found without nesting ourselves."""
    level = [value]
    for _ in range(depth):
        if not level:
            return True
        inner = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [child for children in inner for child in children]
    return not level


def _text(node: Node) -> str:
    return node.text()


def _environment(node: Node) -> Environment:
    id_ = node.need("id")
    try:
        uuid.UUID(id_.text())
    except ValueError:
        raise id_.wrong("a UUID") from None
    return Environment(
        id=id_.text(),
        name=node.need("name").text(),
        is_production=node.optional("isProduction", Node.flag, False),
        warehouse_location=node.optional("warehouseLocation", _text, None),
    )


def _source(node: Node) -> SourceFile:
    return SourceFile(node.need("name").text(), node.need("content").text())


def _settings(node: Node) -> Settings:
    default = Settings()
    return Settings(
        session_timeout_s=node.optional(
            "sessionTimeoutSeconds", lambda item: item.integer(10), default.session_timeout_s
        ),
        max_session_s=node.optional("maxSessionSeconds", lambda item: item.integer(1), None),
        max_memo_records=node.optional(
            "maxMemoRecordsPerSession", lambda item: item.integer(1), default.max_memo_records
        ),
    )


def _audience(node: Node) -> Audience:
    return Audience(
        id=node.need("id").text(),
        name=node.need("name").text(),
        definition=read_rule(node.need("definition")),
        description=node.optional("description", _text, ""),
        state=node.optional("state", lambda item: item.one_of("published", "archived"), "published"),
    )


MAX_RULE_DEPTH = 20
"""Rules become nested calls, and deeper ones are unreadable anyway."""


def read_rule(node: Node, depth: int = 1) -> Rule:
    """Read one audience rule (§9.3, `$defs/rule`).

    Args:
        node: Where it stands.
        depth: How many rules it is inside of, itself included.

    Raises:
        DocumentError: It is not exactly one kind of rule, or nested too deep.
    """
    if depth > MAX_RULE_DEPTH:
        raise DocumentError(node.path, f"rules are nested more than {MAX_RULE_DEPTH} deep")
    kinds = [kind for kind in _RULES if kind in node.entries()]
    if len(kinds) != 1:
        raise node.wrong("a rule with exactly one of " + ", ".join(_RULES))
    return _RULES[kinds[0]](node, depth)


def _compare(node: Node, _depth: int) -> Rule:
    op = node.need("op").one_of(*COMPARISONS)
    value = node.entries().get("value")
    given = Node(f"{node.path}.value", value)
    if op in ("in", "nin"):
        given.items()
    elif op == "startsWith":
        given.text()
    elif op == "matches":
        _check_pattern(given)
    elif op in ("lt", "lte", "gt", "gte") and not isinstance(value, str):
        given.number()
    return Compare(node.need("field").text(), op, value)


def _check_pattern(node: Node) -> None:
    try:
        compile_pattern(node.text())
    except PatternError as error:
        expected = "a regular expression in RE2 syntax (without back-references and look-around)"
        raise DocumentError(node.path, f"expected {expected}, found {node.found}: {error}") from error


def _happened(node: Node, depth: int) -> Rule:
    return Happened(
        event=node.need("event").text(),
        op=node.optional("op", lambda item: item.one_of(*COUNTS), "gte"),
        count=node.optional("count", Node.integer, 1),
        where=node.optional("where", lambda item: read_rule(item, depth + 1), None),
    )


_RULES: dict[str, Callable[[Node, int], Rule]] = {
    "all": lambda node, depth: AllOf(tuple(read_rule(item, depth + 1) for item in node.list("all"))),
    "any": lambda node, depth: AnyOf(tuple(read_rule(item, depth + 1) for item in node.list("any"))),
    "not": lambda node, depth: Not(read_rule(node.need("not"), depth + 1)),
    "audience": lambda node, _depth: InAudience(node.need("audience").text()),
    "field": _compare,
    "event": _happened,
}


def _feature(node: Node) -> FeatureSettings:
    return FeatureSettings(
        gate=node.optional("gate", _gate, Gate()),
        controls={
            name: tuple(_rollout(item) for item in rollouts.items()) for name, rollouts in node.mapping("controls")
        },
    )


def _gate(node: Node) -> Gate:
    return Gate(
        active=node.optional("active", Node.flag, None),
        audience_id=node.optional("audienceId", _text, None),
        percent=node.optional("percent", Node.percent, 100.0),
        salt=node.optional("salt", _text, None),
    )


def _rollout(node: Node) -> Rollout:
    return Rollout(
        value=_value(node.need("value")),
        audience_id=node.optional("audienceId", _text, None),
        percent=node.optional("percent", Node.percent, 100.0),
        salt=node.optional("salt", _text, None),
    )


def _value(node: Node) -> Value:
    entries = node.entries()
    if list(entries) == ["constant"]:
        return Constant(entries["constant"])
    if list(entries) == ["external"]:
        return External(node.need("external").text())
    raise node.wrong('{"constant": …} or {"external": …}')


def _experiment(node: Node) -> Experiment:
    variants = tuple(_variant(item) for item in node.need("variants").items())
    if len(variants) < 2:
        raise DocumentError(f"{node.path}.variants", f"expected at least 2 variants, found {len(variants)}")
    return Experiment(
        id=node.need("id").text(),
        name=node.need("name").text(),
        variants=variants,
        description=node.optional("description", _text, ""),
        state=node.optional("state", lambda item: item.one_of("published", "paused", "done"), "published"),
        audience_id=node.optional("audienceId", _text, None),
        percent=node.optional("percent", Node.percent, 100.0),
        salt=node.optional("salt", _text, None),
        start_ms=node.optional("startTs", Node.integer, None),
        finish_ms=node.optional("finishTs", Node.integer, None),
    )


def _variant(node: Node) -> Variant:
    weight = node.need("weight")
    if weight.number() <= 0:
        raise weight.wrong("a number greater than 0")
    return Variant(
        id=node.need("id").text(),
        weight=weight.number(),
        name=node.optional("name", _text, None),
        is_control=node.optional("control", Node.flag, False),
        values=tuple(_variant_value(item) for item in node.list("values")),
    )


def _variant_value(node: Node) -> VariantValue:
    value = VariantValue(
        feature=node.need("feature").text(),
        field=node.optional("field", _text, None),
        value=node.optional("value", _value, None),
        active=node.optional("active", Node.flag, None),
    )
    if (value.field is None) != (value.value is None):
        raise node.wrong("'field' and 'value' together")
    if value.field is None and value.active is None:
        raise node.wrong("'field' with 'value', or 'active'")
    return value


def _device(node: Node) -> Device:
    return Device(
        persistent_id=node.need("persistentId").text(minimum=1),
        owner=node.optional("owner", _text, ""),
        flush_ms=node.optional("flushTime", Node.integer, None),
        variants={name: item.text() for name, item in node.mapping("variants")},
        overrides={name: _override(item) for name, item in node.mapping("overrides")},
    )


def _override(node: Node) -> Override:
    return Override(
        active=node.optional("active", Node.flag, None),
        values={name: _value(item) for name, item in node.mapping("values")},
    )
