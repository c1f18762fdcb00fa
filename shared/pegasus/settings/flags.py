"""Typed, validated settings that can be read and changed over HTTP (protocol §4.4 to §4.6, appendix B)."""

from __future__ import annotations

import configparser
import difflib
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import structlog

from shared.errors import StartupError
from shared.pegasus.serving.json_format import cell
from shared.pegasus.settings.catalog import CATALOG
from shared.pegasus.settings.values import parse_bool, parse_int
from shared.pegasus.wire.errors import ErrorCode

__all__ = ["EFFECTIVE_EVERYWHERE", "Flag", "FlagError", "Flags"]

log = structlog.get_logger("shared.flags")

Value = bool | int | float | str

_SECTION = re.compile(r"^\[(.+)\]$", re.MULTILINE)
_SETTING = re.compile(r"^(\w+)(\*?) (b|i32|u32|i64|u64|d|s)=(.*)\n    (.+)$", re.MULTILINE)
_TYPES = {
    "b": "FV_BOOL",
    "i32": "FV_INT32",
    "u32": "FV_UINT32",
    "i64": "FV_INT64",
    "u64": "FV_UINT64",
    "d": "FV_DOUBLE",
    "s": "FV_STRING",
}


class FlagError(ValueError):
    """A setting cannot have this value; the text is what `/updateConfig` answers as its status (§4.6)."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One setting.

    Attributes:
        type: `b`, `i32`, `u32`, `i64`, `u64`, `d` or `s`.
        is_mutable: Whether it can be changed while running.
    """

    section: str
    name: str
    type: str
    default: Value
    is_mutable: bool
    description: str

    def parse(self, text: str) -> Value:
        """A value of this setting's type.

        Raises:
            ValueError: The text is none.
        """
        match self.type:
            case "b":
                return parse_bool(text)
            case "d":
                return float(text)
            case "s":
                return text
            case _:
                return parse_int(text, int(self.type[1:]), is_signed=self.type[0] == "i")


def _catalog() -> dict[str, Flag]:
    flags: dict[str, Flag] = {}
    _, *parts = _SECTION.split(CATALOG)
    for section, settings in zip(parts[::2], parts[1::2], strict=True):
        for name, star, type, default, description in _SETTING.findall(settings):
            untyped = Flag(section, name, type, "", bool(star), description)
            flags[name] = replace(untyped, default=untyped.parse(default))
    return flags


# -- validators -----------------------------------------------------------------------------------


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _is_prime(value: int) -> bool:
    return value > 1 and all(value % divisor for divisor in range(2, int(value**0.5) + 1))


_POSITIVE = (
    "config_sync_interval_ms",
    "replicas_stat_interval_ms",
    "load_replica_max_wait_time_ms",
    "max_replicas_on_load_for_each_disk",
    "max_allowed_replica_count",
    "min_allowed_replica_count",
    "min_live_node_count_for_unfreeze",
    "rocksdb_slow_query_threshold_ns",
    "conn_pool_max_size",
    "max_log_file_bytes",
    "max_number_of_log_files_on_disk",
)

_VALIDATORS: dict[str, Callable[[int], bool]] = {
    **dict.fromkeys(_POSITIVE, lambda value: value > 0),
    "max_concurrent_bulk_load_downloading_count": lambda value: value >= 0,
    "node_live_percentage_threshold_for_update": lambda value: 0 <= value <= 100,
    "mem_release_max_reserved_mem_percentage": lambda value: 0 <= value <= 100,
    "perf_counter_read_capacity_unit_size": _is_power_of_two,
    "perf_counter_write_capacity_unit_size": _is_power_of_two,
    "read_amp_bytes_per_bit": lambda value: value == 0 or _is_power_of_two(value),
    "hotkey_buckets_num": lambda value: value >= 3 and _is_prime(value),
    "timer_service_worker_count": lambda value: value >= 3,
    "rocksdb_format_version": lambda value: value in (2, 5),
}
_CHOICES = {"rocksdb_filter_type": ("common", "prefix")}


def _is_valid(name: str, value: Value) -> bool:
    if name in _CHOICES:
        return value in _CHOICES[name]
    validator = _VALIDATORS.get(name)
    return validator is None or (isinstance(value, int) and validator(value))


EFFECTIVE_EVERYWHERE = frozenset(
    (
        "counter_computation_interval_seconds",
        "entity_retirement_delay_ms",
        "fd_beacon_interval_seconds",
        "fd_grace_seconds",
        "fd_lease_seconds",
    )
)
"""Settings on which both daemons depend, through what they share."""

_UNAVAILABLE = {
    "enable_auth": "clients cannot be authenticated",
    "mandatory_auth": "clients cannot be authenticated",
    "enable_acl": "access to tables cannot be controlled",
    "enable_ranger_acl": "access to tables cannot be controlled by Ranger",
    "enable_zookeeper_kerberos": "ZooKeeper is not used",
    "enable_white_list": "replica servers cannot be kept out by a list",
    "encrypt_data_at_rest": "data on disk cannot be encrypted; encrypt the file system",
}
"""Settings that protect something and cannot act here: they stay false, because nobody may think that they do."""


def _why_unavailable(name: str, value: Value) -> str:
    return _UNAVAILABLE.get(name, "") if value is True else ""


# -- the registry ---------------------------------------------------------------------------------


class Flags:
    """The settings of a process.

    Args:
        overrides: Values other than the defaults, by name, as text.
        effective: The settings on which something in this process depends; None for all.

    Attributes:
        without_effect: The overridden settings on which nothing here depends.

    Raises:
        StartupError: A name is unknown, a value is not valid, or it asks for protection that there is not.
    """

    def __init__(self, overrides: Mapping[str, str] | None = None, effective: Collection[str] | None = None) -> None:
        self._effective = effective
        self.without_effect = sorted(name for name in overrides or {} if not self.has_effect(name))
        self.catalog: Mapping[str, Flag] = _catalog()
        self._values: dict[str, Value] = {name: flag.default for name, flag in self.catalog.items()}
        self._listeners: dict[str, list[Callable[[], None]]] = {}
        for name, text in (overrides or {}).items():
            self._override(name, text)
        failure = self._group_failure()
        if failure is not None:
            raise StartupError(failure)

    def _override(self, name: str, text: str) -> None:
        flag = self.catalog.get(name)
        if flag is None:
            close = difflib.get_close_matches(name, self.catalog, 1)
            hint = f" (did you mean '{close[0]}'?)" if close else ""
            raise StartupError(f"there is no setting '{name}'{hint}")
        try:
            value = flag.parse(text)
        except ValueError as error:
            raise StartupError(f"setting '{name}' ({_TYPES[flag.type]}): {error}") from error
        if not _is_valid(name, value):
            raise StartupError(f"setting '{name}' cannot be '{text}'")
        reason = _why_unavailable(name, value)
        if reason:
            raise StartupError(f"setting '{name}' cannot be '{text}': {reason}")
        self._values[name] = value

    # reading

    def boolean(self, name: str) -> bool:
        """The value of a boolean setting."""
        value = self._values[name]
        assert isinstance(value, bool), name
        return value

    def integer(self, name: str) -> int:
        """The value of an integer setting."""
        value = self._values[name]
        assert isinstance(value, int) and not isinstance(value, bool), name
        return value

    def number(self, name: str) -> float:
        """The value of a setting of type double."""
        value = self._values[name]
        assert isinstance(value, float), name
        return value

    def text(self, name: str) -> str:
        """The value of a string setting."""
        value = self._values[name]
        assert isinstance(value, str), name
        return value

    def has_effect(self, name: str) -> bool:
        """Whether something in this process depends on a setting."""
        return self._effective is None or name in self._effective

    def warn_of_idle(self) -> None:
        """Log the overridden settings on which nothing here depends."""
        if self.without_effect:
            log.warning("settings without effect in this process", names=" ".join(self.without_effect))

    def describe(self, name: str) -> dict[str, str]:
        """What `/config` shows of a setting (§4.5)."""
        flag = self.catalog[name]
        note = "" if self.has_effect(name) else " (nothing in this process depends on it)"
        return {
            "name": name,
            "section": flag.section,
            "type": _TYPES[flag.type],
            "tags": "flag_tag::FT_MUTABLE" if flag.is_mutable else "",
            "description": flag.description + note,
            "value": self._shown(name),
        }

    def _shown(self, name: str) -> str:
        value = self._values[name]
        return f"{value:.2f}" if isinstance(value, float) else cell(value)

    # changing

    def on_change(self, name: str, listener: Callable[[], None]) -> None:
        """Call `listener` whenever the setting has got a new value."""
        self._listeners.setdefault(name, []).append(listener)

    def update(self, name: str, text: str) -> None:
        """Change a mutable setting, until the process ends (§4.6).

        Raises:
            FlagError: It is unknown, not mutable, or cannot have this value; the old value is kept.
        """
        flag = self.catalog.get(name)
        if flag is None:
            raise FlagError(f"{ErrorCode.ERR_OBJECT_NOT_FOUND}: {name} is not found")
        if not flag.is_mutable:
            raise FlagError(f"{ErrorCode.ERR_INVALID_PARAMETERS}: {name} is not mutable")
        if flag.type == "s":
            raise FlagError(f"{ErrorCode.ERR_INVALID_PARAMETERS}: string modifications are not supported")
        try:
            value = flag.parse(text)
        except ValueError as error:
            raise FlagError(f"{ErrorCode.ERR_INVALID_PARAMETERS}: {text} is invalid") from error
        if not _is_valid(name, value):
            raise FlagError(f"{ErrorCode.ERR_INVALID_PARAMETERS}: value validation failed")
        reason = _why_unavailable(name, value)
        if reason:
            raise FlagError(f"{ErrorCode.ERR_INVALID_PARAMETERS}: {reason}")
        old, self._values[name] = self._values[name], value
        failure = self._group_failure()
        if failure is not None:
            self._values[name] = old
            raise FlagError(f"{ErrorCode.ERR_INVALID_PARAMETERS}: {failure}")
        for listener in self._listeners.get(name, ()):
            listener()

    def _group_failure(self) -> str | None:
        beacon_s, lease_s, grace_s = (
            self.integer(f"fd_{name}_seconds") for name in ("beacon_interval", "lease", "grace")
        )
        if not 0 < beacon_s < lease_s < grace_s:
            return (
                f"settings fd_beacon_interval_seconds ({beacon_s}), fd_lease_seconds ({lease_s}), fd_grace_seconds "
                f"({grace_s}): each must be greater than the one before, or two servers could serve a partition"
            )
        lowest, highest = self.integer("min_allowed_replica_count"), self.integer("max_allowed_replica_count")
        if lowest <= highest:
            return None
        return (
            'group validator "min_max_allowed_replica_count" failed: '
            f'"meta_server.min_allowed_replica_count({lowest}) should be <= '
            f'meta_server.max_allowed_replica_count({highest})"'
        )


def read_ini(text: str, catalog: Mapping[str, Flag]) -> dict[str, str]:
    """The settings in a configuration file of the original; sections it has for other purposes are ignored.

    Raises:
        StartupError: The file is not of the form `[section]`, `name = value`.
    """
    parser = configparser.ConfigParser(interpolation=None, strict=False, delimiters=("=",), comment_prefixes=("#", ";"))
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise StartupError(f"malformed configuration file: {error.message}") from error
    return {
        name: value
        for section in parser.sections()
        for name, value in parser.items(section)
        if name in catalog and catalog[name].section == section
    }
