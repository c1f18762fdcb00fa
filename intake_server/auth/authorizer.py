"""Evaluates the auth plugin on every use of every entry."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from intake_server.auth import plugins
from intake_server.auth.plugins import CatalogView, Plugin, SourceView
from intake_server.catalog.model import PathEntry
from intake_server.concurrency.thread_pool import ThreadPool
from shared.errors import Problem

log = structlog.get_logger("intake_server.auth")
_BUILT_IN = (plugins.BaseAuth, plugins.SecretAuth, plugins.KeyAuth)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        headers: The request's headers, case-insensitive.
        audience: Callers of one audience see the same entries; None when only the plugin knows.
    """

    headers: Mapping[str, str]
    audience: Hashable


class Authorizer:
    """Lets callers through or not.

    Args:
        plugin: The auth plugin.
        threads: Runs plugins of other packages, which may block.
        hide_denied: Whether denied entries look as if they did not exist.
    """

    def __init__(self, plugin: Plugin, threads: ThreadPool, *, hide_denied: bool = False) -> None:
        self._plugin = plugin
        self._threads = threads
        self._hide_denied = hide_denied
        self._is_built_in = type(plugin) in _BUILT_IN
        self._sees_everything = plugins.sees_everything(plugin)

    @property
    def protects(self) -> bool:
        """Whether callers have to prove anything at all."""
        return type(self._plugin) is not plugins.BaseAuth

    @property
    def shows_everything(self) -> bool:
        """Whether whoever may connect may see every entry."""
        return self._sees_everything

    async def connect(self, headers: Mapping[str, str]) -> Caller:
        """The caller of a request.

        Raises:
            Problem: 403, the caller may not connect.
        """
        plugin = self._plugin
        if type(plugin) is plugins.BaseAuth:
            return Caller(headers, "everybody")
        allowed = (
            plugin.allow_connect(headers)
            if self._is_built_in
            else await self._evaluate(lambda: plugin.allow_connect(headers))
        )
        if not allowed:
            raise Problem(403, plugins.FORBIDDEN, code="forbidden")
        return Caller(headers, plugins.audience(plugin, headers))

    async def check(self, caller: Caller, path: Sequence[PathEntry]) -> None:
        """Let a caller use the last entry of a path.

        Raises:
            Problem: 403, or 404 if denied entries are hidden: one of them is denied.
        """
        if self._sees_everything or not path:
            return
        allowed = await self._allowed(caller, path)
        if not all(allowed):
            if self._hide_denied:
                raise Problem(404, "No such entry", code="not_found")
            raise Problem(403, plugins.FORBIDDEN, code="forbidden")

    async def visible(self, caller: Caller, entries: Sequence[PathEntry]) -> list[bool]:
        """For each of many entries, whether a caller may see it."""
        if self._sees_everything:
            return [True] * len(entries)
        return await self._allowed(caller, entries)

    async def _allowed(self, caller: Caller, entries: Sequence[PathEntry]) -> list[bool]:
        plugin, headers = self._plugin, caller.headers

        def evaluate() -> list[bool]:
            return [self._evaluate_one(plugin, headers, entry) for entry in entries]

        return evaluate() if self._is_built_in else await self._threads.run(evaluate, key="auth", timeout_s=30.0)

    def _evaluate_one(self, plugin: Plugin, headers: Mapping[str, str], entry: PathEntry) -> bool:
        try:
            return bool(plugin.allow_access(headers, SourceView(entry), CatalogView(entry.catalog_metadata)))
        except Exception as error:  # noqa: BLE001 - a plugin is foreign code; whatever it raises means no (§7)
            log.warning("auth plugin failed", entry=".".join(entry.names), reason=repr(error))
            return False

    async def _evaluate(self, question: Callable[[], bool]) -> bool:
        def evaluate() -> bool:
            try:
                return bool(question())
            except Exception as error:  # noqa: BLE001 - a plugin is foreign code; whatever it raises means no (§7)
                log.warning("auth plugin failed", reason=repr(error))
                return False

        return await self._threads.run(evaluate, key="auth", timeout_s=30.0)
