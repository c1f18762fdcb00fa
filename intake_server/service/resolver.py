"""Resolving entries with callers' parameters (specification §9.3 to §9.5), remembered where nothing else decides."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgpack
import structlog

from intake_server.catalog import Entry
from intake_server.parameters import ParameterError
from intake_server.resolution import Resolved, Rules, canonical, resolve
from intake_server.service.workers import Workers
from intake_server.settings import Settings
from intake_server.templates import TemplateError, Templates
from shared.errors import Problem

log = structlog.get_logger("intake_server.catalogs")
_MOST_RESOLVED = 4096
_SHELL_TIMEOUT_S = 30


class Resolver:
    """Resolves entries as the operator allows.

    Args:
        settings: The operator's settings.
        workers: Threads for the commands of ``shell()``.
    """

    def __init__(self, settings: Settings, workers: Workers) -> None:
        self._workers = workers
        self._templates = _templates(settings)
        self._rules = Rules(settings.confine_paths, settings.overrides)
        self._resolved: dict[tuple[bytes, bytes], Resolved] = {}

    async def resolve(self, entry: Entry, parameters: Mapping[str, Any]) -> Resolved:
        """Resolve an entry's parameters and templates.

        Raises:
            Problem: 400, a parameter is unknown or does not fit, or the catalog's template cannot be rendered.
        """
        try:
            if not self._templates.runs_commands:
                return self._resolve(entry, parameters)
            return await self._workers.run(
                lambda: resolve(entry, parameters, self._templates, self._rules, _now), key=entry.scope.directory
            )
        except (ParameterError, TemplateError) as error:
            raise Problem(400, str(error), code="bad_parameter") from error

    def _resolve(self, entry: Entry, parameters: Mapping[str, Any]) -> Resolved:
        if any(parameter.type == "datetime" for parameter in entry.parameters):
            return resolve(entry, parameters, self._templates, self._rules, _now)  # it may depend on the time
        key = (entry.digest(), msgpack.packb(canonical(parameters), use_bin_type=True))
        known = self._resolved.get(key)
        if known is None:
            known = resolve(entry, parameters, self._templates, self._rules, _now)
            if len(self._resolved) >= _MOST_RESOLVED:
                self._resolved.clear()
            self._resolved[key] = known
        return known


def _templates(settings: Settings) -> Templates:
    environment: Mapping[str, str] | None = None
    if settings.getenv:
        allowed = settings.env_names
        environment = {name: value for name, value in os.environ.items() if allowed is None or name in allowed}
    return Templates(environment, _run_shell if settings.getshell else None)


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
