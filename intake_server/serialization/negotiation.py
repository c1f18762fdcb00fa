"""Which format and which compression an answer takes (protocol §4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

PICKLES = ("pickle2", "pickle1")
COMPRESSIONS = ("snappy", "gzip")
DATASET_FORMS = ("map", "url")


class NoCompatibleFormat(Exception):  # noqa: N818 - the caller's mistake, answered as 400
    """The caller accepts no format that this server sends."""

    def __init__(self) -> None:
        super().__init__("Unable to find compatible format")


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator allows.

    Attributes:
        pickle: Whether objects that MessagePack cannot carry may be sent as pickle.
        prefer: The compression to use whenever it is accepted; ``none`` sends data as they are when that is accepted.
        datasets_as: How data sets are described to clients that do not say what they take: ``map`` or ``url``.
    """

    pickle: bool = False
    prefer: str = "none"
    datasets_as: str = "map"


@dataclass(frozen=True, slots=True)
class WireFormat:
    """How one answer is sent.

    Attributes:
        format: ``msgpack``, or ``pickle2``/``pickle1`` when nothing else is accepted and the operator allows it.
        compression: ``none``, ``gzip`` or ``snappy``.
        fallback: The pickle format to use for an object that MessagePack cannot carry, None when it must fail.
    """

    format: str
    compression: str
    fallback: str | None = None


def negotiate(formats: Sequence[str] | None, compressions: Sequence[str] | None, policy: Policy) -> WireFormat:
    """Choose the form of an answer.

    Args:
        formats: What the caller accepts; None means MessagePack.
        compressions: What the caller can decompress; None means nothing.
        policy: What the operator allows.

    Raises:
        NoCompatibleFormat: Nothing that the caller accepts may be sent.
    """
    accepted = ["msgpack"] if formats is None else formats
    fallback = next((name for name in PICKLES if name in accepted), None) if policy.pickle else None
    compression = _compression(compressions or (), policy.prefer)
    if "msgpack" in accepted:
        return WireFormat("msgpack", compression, fallback)
    if fallback is None:
        raise NoCompatibleFormat
    return WireFormat(fallback, compression)


def _compression(accepted: Sequence[str], prefer: str) -> str:
    if prefer != "none" and prefer in accepted:
        return prefer
    if "none" in accepted:
        return "none"
    return next((name for name in COMPRESSIONS if name in accepted), "none")
