"""Names: how FDL names become warehouse names, and which names are taken (protocol §12.3, §13.1, §13.3)."""

from __future__ import annotations

import re

_RESERVED = (
    "abstract args enum event extend false feature fragment implements import input interface java "
    "namespace null offline on output plugin scalar session true type union"
)
RESERVED_WORDS = frozenset(_RESERVED.split())
"""Words of the language that cannot be names."""

_JAVA = (
    "abstract assert boolean break byte case catch char class const continue default do double else enum "
    "extends false final finally float for goto if implements import instanceof int interface long native "
    "new null object package private protected public return short static strictfp super switch "
    "synchronized this throw throws transient true try void volatile while"
)
JAVA_KEYWORDS = frozenset(_JAVA.split())
"""Names that the generated Java client cannot have: its keywords, and `object`."""

BUILT_IN_TYPES = frozenset({"Int", "Float", "Boolean", "String", "ID", "ImpressionTime"})

METADATA_TABLES = frozenset({"experiment", "variant", "variant_value", "audience", "metric", "session_metrics"})
"""Tables that describe the configuration or are derived; no definition may be called like one."""

FEATURE_SYSTEM_NAMES = ("impressionIds", "impressions", "firstTime", "impressionCount")
SESSION_SYSTEM_NAMES = (
    "environment",
    "sessionId",
    "startTime",
    "sessionLength",
    "userAgent",
    "entryUrl",
    "variants",
    "audiences",
)
EVENT_SYSTEM_NAMES = ("eventTime", "impressionId", "eventId")
PARTITION_COLUMNS = ("ds", "hh")

LAST_FLUSH_TIME = "lastFlushTime"
"""A member of the session object that a field of the program may hide (§3.5)."""

RESPONSE_NAMES = frozenset({"session", "errors", "registered", "_flags", "_variants"})
"""Members of a response in map form that a feature of the same name would hide (§3.4)."""

_WORD_START = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_UNDERSCORES = re.compile(r"_+")
_PACKAGE = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*", re.ASCII)


def snake_case(name: str) -> str:
    """The warehouse name of an FDL name (§12.3): `RatingBox` is `rating_box`, `aURL` is `a_url`.

    Leading underscores disappear and runs of them become one, as in the original compiler.
    """
    return _UNDERSCORES.sub("_", _WORD_START.sub("_", name)).lower().lstrip("_")


def is_java_keyword(name: str) -> bool:
    """Whether Java clients cannot be generated for a program with this name."""
    return name in JAVA_KEYWORDS or snake_case(name) in JAVA_KEYWORDS


def is_package_name(text: str) -> bool:
    """Whether a namespace can be the package of generated code: dotted identifiers, no Java keyword."""
    return bool(_PACKAGE.fullmatch(text)) and not any(
        part in JAVA_KEYWORDS and part != "object" for part in text.split(".")
    )
