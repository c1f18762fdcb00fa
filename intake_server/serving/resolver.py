"""Resolving entries with callers' parameters, remembered where nothing else decides."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgpack
import structlog

from intake_server.catalog.model import Entry
from intake_server.catalog.parameters import ParameterError
from intake_server.concurrency.cache import LruCache
from intake_server.concurrency.thread_pool import Busy, ThreadPool, TookTooLong
from intake_server.serialization.control import pack
from intake_server.settings import Settings
from intake_server.templates.rendering import TemplateError, Templates
from intake_server.templates.resolution import Resolved, Rules, canonical, resolve
from shared.errors import Problem

log = structlog.get_logger("intake_server.catalogs")
MAX_PARAMETER_BYTES = 2**16
"""Of all values together that a caller sends for one entry."""
_CACHE_BYTES = 32 * 2**20
_CACHE_S = 3600.0
_MAX_KNOWN = 2**16
_SHELL_TIMEOUT_S = 30


class Resolver:
    """Resolves entries as the operator allows: on the loop where that takes no time to speak of, else in a thread.

    Args:
        settings: The operator's settings.
        threads: Renders templates that compute, and runs the commands of ``shell()``.
    """

    def __init__(self, settings: Settings, threads: ThreadPool) -> None:
        self._threads = threads
        self._templates = _templates(settings)
        self._rules = Rules(settings.confine_paths, settings.overrides)
        self._timeout_s = settings.open_timeout_s
        self._cache = LruCache[Resolved](
            most_bytes=_CACHE_BYTES, largest=_CACHE_BYTES // 32, idle_s=_CACHE_S, clock=time.monotonic
        )
        self._light = LruCache[bool](most=_MAX_KNOWN)

    async def resolve(self, entry: Entry, parameters: Mapping[str, Any]) -> Resolved:
        """Resolve an entry's parameters and templates.

        Raises:
            Problem: 400, a parameter is unknown or does not fit, or the catalog's template cannot be rendered;
                503, not now.
        """
        try:
            return await self._resolve(entry, parameters)
        except (ParameterError, TemplateError) as error:
            raise Problem(400, str(error), code="bad_parameter") from error
        except (Busy, TookTooLong) as error:
            raise Problem(503, f"the entry cannot be opened now: {error}", headers={"Retry-After": "2"}) from error

    def unknown_variables(self, entry: Entry) -> set[str]:
        """What the templates of an entry mention and nothing gives: it renders as nothing.

        Raises:
            Problem: 400, a template is malformed.
        """
        if entry.is_literal:
            return set()
        texts = [value for key, value in entry.arguments.items() if key != "entries"]
        texts += [choice.arguments for choice in entry.drivers]
        try:
            found = self._templates.variables(texts, may_miss=False)
        except TemplateError as error:
            raise Problem(400, str(error), code="bad_parameter") from error
        return found - {"CATALOG_DIR", *(parameter.name for parameter in entry.parameters)}

    async def _resolve(self, entry: Entry, parameters: Mapping[str, Any]) -> Resolved:
        packed = msgpack.packb(canonical(parameters), use_bin_type=True)
        key = (entry.digest(), packed)
        known = self._cache.get(key)
        if known is not None:
            return known
        if len(packed) > MAX_PARAMETER_BYTES:
            raise ParameterError(f"parameters: {len(packed)} bytes, expected at most {MAX_PARAMETER_BYTES}")
        known_light = self._light.get(entry.digest())
        if known_light:
            resolved = self._resolve_now(entry, parameters)
        else:
            resolved, is_light = await self._threads.run(
                lambda: (self._resolve_now(entry, parameters), known_light is None and self._is_light(entry)),
                key=entry.digest(),
                timeout_s=self._timeout_s,
            )
            self._light.put(entry.digest(), is_light)
        if self._is_repeatable(entry):
            self._cache.put(key, resolved, 2 * len(packed) + 2 * len(pack(resolved.arguments)) + 2048)
        return resolved

    def _is_repeatable(self, entry: Entry) -> bool:
        """Whether resolving again gives the same: not so with commands, and with times such as ``now``."""
        return not self._templates.runs_commands and all(one.type != "datetime" for one in entry.parameters)

    def _resolve_now(self, entry: Entry, parameters: Mapping[str, Any]) -> Resolved:
        return resolve(entry, parameters, self._templates, self._rules, _now)

    def _is_light(self, entry: Entry) -> bool:
        """Whether an entry's templates take no time to speak of."""
        return not self._templates.runs_commands and (
            entry.is_literal
            or self._templates.are_light([entry.arguments, *(choice.arguments for choice in entry.drivers)])
        )


def _templates(settings: Settings) -> Templates:
    environment: Mapping[str, str] | None = None
    if settings.getenv:
        allowed = settings.env_names
        environment = {name: value for name, value in os.environ.items() if allowed is None or name in allowed}
    return Templates(environment, _run_shell if settings.getshell else None, time.thread_time)


def _run_shell(command: str) -> str:
    """What a catalog author's command prints, empty when it fails (§9.4)."""
    try:
        done = subprocess.run(command, shell=True, check=True, capture_output=True, timeout=_SHELL_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("shell() failed", command=command, reason=str(error))
        return ""
    return done.stdout.decode(errors="replace").strip()


def _now() -> datetime:
    return datetime.now(UTC)
