"""The bodies of requests of `features`, `signal` and `external` (§3.1, §4 and §5).

Members that are not known are ignored everywhere; that is the rule by which clients and servers of
different age work together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from iserver.errors import MalformedError
from iserver.fdl.model import JsonObject


class FeaturesRequest(msgspec.Struct, frozen=True):
    """The body of `features`.

    Attributes:
        args: Session args, keys included, as they were sent.
        impression_id: Id of the impression; `None` for a cache fill.
        wanted: Names of features and their args, in order.
        is_map: Whether the answer has map form (§3.4) or array form (§3.3).
        wants_flags: Whether the answer has `_flags`.
    """

    args: JsonObject
    impression_id: str | None
    wanted: Sequence[tuple[str, JsonObject]]
    is_map: bool
    wants_flags: bool

    @classmethod
    def parse(cls, body: JsonObject, *, most_features: int) -> FeaturesRequest:
        """Read the body.

        Raises:
            MalformedError: A container has the wrong type, both forms are used at once, or too much is requested.
        """
        requests, reqs = body.get("requests"), body.get("reqs")
        if requests is not None and reqs is not None:
            raise MalformedError("malformed request: 'requests' and 'reqs' exclude each other")
        options = body.get("fetchOptions")
        wanted = _entries_of_map(requests) if requests is not None else _entries_of_array(reqs)
        if len(wanted) > most_features:
            raise MalformedError(
                f"too many features: expected at most {most_features} in a request, found {len(wanted)}"
            )
        return cls(
            _object(body, "args"),
            _optional_text(body, "impressionId"),
            wanted,
            is_map=requests is not None,
            wants_flags=isinstance(options, list) and "flags" in options,
        )


class Mutate(msgspec.Struct, frozen=True):
    """A new value for a mutable session field (§4.2)."""

    name: str
    value: Any


class ShowCached(msgspec.Struct, frozen=True):
    """A cached copy of a feature was really shown (§4.3).

    Attributes:
        feature: Name of the feature.
        impression_id: A real id or a cache-fill id of the record.
        new_impression_id: The impression to add to it.
    """

    feature: str
    impression_id: str
    new_impression_id: str


class SignalEvent(msgspec.Struct, frozen=True):
    """Something happened downstream of an impression, or in the session (§4.1).

    Attributes:
        feature: `None` for a session event.
        event: Name of the event.
        impression_id: The impression it happened on.
        args: Fields of the event as they were sent.
        is_abstract: Whether `event` is at the top level of the program: what is meant is the event that imports it, of
            whatever the impression belongs to. Java and Ruby clients have a method for each.
    """

    feature: str | None
    event: str
    impression_id: str | None
    args: JsonObject
    is_abstract: bool = False


class SignalRequest(msgspec.Struct, frozen=True):
    """The body of `signal`; without any of the three kinds it is a keep-alive (§4.4).

    Attributes:
        id: Session keys, perhaps among other session args.
        mutate, shown, event: What is signalled; carried out in this order.
        ignore_missing_impression: Whether an impression that is not on record is no error.
    """

    id: JsonObject
    mutate: Mutate | None = None
    shown: Sequence[ShowCached] = ()
    event: SignalEvent | None = None
    ignore_missing_impression: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is signalled, in words."""
        given = (("mutate", self.mutate), ("impressions", self.shown), ("event", self.event))
        return tuple([kind for kind, value in given if value]) or ("keep_alive",)

    @classmethod
    def parse(cls, body: JsonObject) -> SignalRequest:
        """Read the body.

        Raises:
            MalformedError: Something in it has the wrong type.
        """
        kinds = [kind for kind in ("mutate", "impressions", "event", "abstractEvent") if body.get(kind) is not None]
        options = body.get("options")
        return cls(
            id=_object(body, "id") if kinds or body.get("id") is not None else body,
            mutate=Mutate(_text(body, "mutate"), body.get("value")) if "mutate" in kinds else None,
            shown=_shown(_object(body, "impressions")) if "impressions" in kinds else (),
            event=_event(body) if "event" in kinds or "abstractEvent" in kinds else None,
            ignore_missing_impression=isinstance(options, dict) and options.get("ignore_missing_imp") is True,
        )


class ExternalRequest(msgspec.Struct, frozen=True):
    """The body of `external`.

    Attributes:
        id: Session keys.
        feature: Name of the feature.
        impression_id: An impression of the record, `None` when the client had none.
        values: Output values by name.
    """

    id: JsonObject
    feature: str
    impression_id: str | None
    values: JsonObject

    @classmethod
    def parse(cls, body: JsonObject) -> ExternalRequest:
        """Read the body.

        Raises:
            MalformedError: Something in it has the wrong type, or no value is posted.
        """
        values = {name: value for name, value in body.items() if name not in _EXTERNAL_MEMBERS}
        if not values:
            raise MalformedError("malformed request: no output value is given")
        return cls(_object(body, "id"), _text(body, "feature"), _optional_text(body, "impressionId"), values)


_EXTERNAL_MEMBERS = frozenset(["id", "feature", "impressionId", "options", "version"])


def _entries_of_map(requests: Any) -> list[tuple[str, JsonObject]]:
    if type(requests) is not dict:
        raise MalformedError(f"malformed request: expected an object for 'requests', found {kind(requests)}")
    return [(name, _args(name, args)) for name, args in requests.items()]


def _entries_of_array(reqs: Any) -> list[tuple[str, JsonObject]]:
    if reqs is None:
        return []
    if type(reqs) is not list:
        raise MalformedError(f"malformed request: expected an array for 'reqs', found {kind(reqs)}")
    entries = []
    for index, entry in enumerate(reqs):
        if type(entry) is not dict:
            raise MalformedError(f"malformed request: expected an object for 'reqs[{index}]', found {kind(entry)}")
        name = entry.get("name")
        if type(name) is not str:
            raise MalformedError(f"malformed request: expected a string for 'reqs[{index}].name', found {kind(name)}")
        entries.append((name, _args(name, entry.get("args"))))
    return entries


def _args(name: str, args: Any) -> JsonObject:
    if args is None:
        return {}
    if type(args) is not dict:
        raise MalformedError(f"malformed request: expected an object for the args of '{name}', found {kind(args)}")
    return args


def _shown(impressions: JsonObject) -> list[ShowCached]:
    shown = []
    for feature, entry in impressions.items():
        if type(entry) is not dict:
            continue
        known, new = entry.get("impression"), entry.get("newImpression")
        if type(known) is str and type(new) is str:  # clients send entries without for what they did not show
            shown.append(ShowCached(feature, known, new))
    return shown


def _event(body: JsonObject) -> SignalEvent:
    is_abstract = body.get("event") is None
    feature = None if is_abstract else _optional_text(body, "feature")
    return SignalEvent(
        feature=None if feature == "session" else feature,
        event=_text(body, "abstractEvent" if is_abstract else "event"),
        impression_id=_optional_text(body, "impressionId"),
        args=_object(body, "args"),
        is_abstract=is_abstract,
    )


def _object(body: JsonObject, name: str) -> JsonObject:
    value = body.get(name)
    if value is None:
        return {}
    if type(value) is not dict:
        raise MalformedError(f"malformed request: expected an object for '{name}', found {kind(value)}")
    return value


def _text(body: JsonObject, name: str) -> str:
    value = body.get(name)
    if type(value) is not str:
        raise MalformedError(f"malformed request: expected a string for '{name}', found {kind(value)}")
    return value


def _optional_text(body: JsonObject, name: str) -> str | None:
    value = body.get(name)
    return value if value is None or type(value) is str else _text(body, name)


def kind(value: object) -> str:
    """What a JSON value is called in a message."""
    if value is None:
        return "nothing"
    kinds = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return kinds.get(type(value), "an object")
