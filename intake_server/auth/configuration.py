"""The classic configuration file, auth plugins by their dotted names, and API keys from a file (§5, §7)."""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import structlog
import yaml

from intake_server.auth.plugins import BaseAuth, Grant, KeyAuth, Plugin, SecretAuth
from shared.errors import StartupError

log = structlog.get_logger("intake_server.config")
_CLASSIC: Mapping[str, type[BaseAuth]] = {
    "intake.auth.base.BaseAuth": BaseAuth,
    "intake.auth.secret.SecretAuth": SecretAuth,
}
_SHA256 = re.compile(r"^[0-9a-fA-F]{64}$")


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the file is: ``$INTAKE_CONF_FILE``, else in ``$INTAKE_CONF_DIR``, else in ``~/.intake``."""
    if environment.get("INTAKE_CONF_FILE"):
        return Path(environment["INTAKE_CONF_FILE"]).expanduser()
    folder = environment.get("INTAKE_CONF_DIR") or "~/.intake"
    return Path(folder).expanduser() / "conf.yaml"


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a file; empty when there is none or it is broken."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        log.warning("the configuration file is ignored", path=str(path), reason=str(error))
        return {}
    if document is None:
        return {}
    if not isinstance(document, dict):
        log.warning("the configuration file is ignored", path=str(path), reason="it is not a map")
        return {}
    return {str(key): value for key, value in document.items()}


def plugin_from(value: Any) -> Plugin:
    """Make the plugin of a classic ``auth`` setting: a dotted name, or a map of ``cls, args, kwargs``.

    Raises:
        StartupError: There is no such class, or it does not take these arguments.
    """
    if isinstance(value, str):
        value = {"cls": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("cls"), str):
        raise StartupError("auth: expected a dotted class name, or a map with the key 'cls'")
    arguments, named = value.get("args") or [], value.get("kwargs") or {}
    if not isinstance(arguments, Sequence) or isinstance(arguments, str) or not isinstance(named, Mapping):
        raise StartupError("auth: 'args' must be a list and 'kwargs' a map")
    name = value["cls"]
    try:
        return cast(Plugin, _class(name)(*arguments, **named))
    except StartupError:
        raise
    except Exception as error:  # a plugin is foreign code: whatever its constructor raises ends the start
        raise StartupError(f"auth: {name} cannot be made: {error}") from error


def _class(name: str) -> Any:
    if name in _CLASSIC:
        return _CLASSIC[name]
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise StartupError(f"auth: there is no class {name}: {error}") from error


def read_keys(path: Path) -> KeyAuth:
    """Read a file of API keys with their access lists.

    The file is YAML: a list ``keys`` of maps with ``name``, ``key`` or ``sha256``, and optional lists ``allow`` and
    ``deny`` of dotted entry paths with ``*``; and an optional map ``anonymous`` with ``allow`` and ``deny``.

    Raises:
        StartupError: The file cannot be read, or says something else.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        raise StartupError(f"{path}: not YAML: {error}") from error
    if not isinstance(document, Mapping) or not isinstance(document.get("keys", []), list):
        raise StartupError(f"{path}: expected a map with a list 'keys'")
    unknown = document.keys() - {"keys", "anonymous"}
    if unknown:
        raise StartupError(f"{path}: unknown key {sorted(map(str, unknown))[0]!r}, expected 'keys' and 'anonymous'")
    grants = [_grant(path, position, item) for position, item in enumerate(document.get("keys", []), 1)]
    if document.get("anonymous") is not None:
        allow, deny = _lists(path, "anonymous", document["anonymous"])
        grants.append(Grant("anonymous", None, allow, deny))
    names = [grant.name for grant in grants]
    if len(set(names)) != len(names):
        raise StartupError(f"{path}: two keys have the same name")
    return KeyAuth(grants)


def _grant(path: Path, position: int, item: Any) -> Grant:
    where = f"key {position}"
    if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
        raise StartupError(f"{path}: {where}: expected a map with a text 'name'")
    where = f"key {item['name']!r}"
    if isinstance(item.get("key"), str) and item["key"]:
        digest = hashlib.sha256(item["key"].encode()).hexdigest()
    elif isinstance(item.get("sha256"), str) and _SHA256.match(item["sha256"]):
        digest = item["sha256"].lower()
    else:
        raise StartupError(f"{path}: {where}: expected a text 'key', or 'sha256' with 64 hexadecimal digits")
    allow, deny = _lists(path, where, item)
    return Grant(item["name"], digest, allow, deny)


def _lists(path: Path, where: str, item: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(item, Mapping):
        raise StartupError(f"{path}: {where}: expected a map")
    unknown = item.keys() - {"name", "key", "sha256", "allow", "deny"}
    if unknown:
        raise StartupError(f"{path}: {where}: unknown key {sorted(map(str, unknown))[0]!r}")
    lists = []
    for key, default in (("allow", ["*"]), ("deny", [])):
        value = item.get(key, default)
        if not isinstance(value, list) or not all(isinstance(pattern, str) for pattern in value):
            raise StartupError(f"{path}: {where}: {key!r} must be a list of entry paths")
        lists.append(tuple(value))
    return lists[0], lists[1]
