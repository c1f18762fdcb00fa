"""Finding, connecting, starting and stopping modules."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web

from gateway.config.models import ModuleOptions
from gateway.config.references import LoadError, describe_failure, load_class
from gateway.engine.engine import Engine
from gateway.modules.api import Module, ModuleGateway
from shared.errors import StartupError

log = structlog.get_logger("gateway.modules")

BUILT_IN = {
    "demo": "gateway.modules.builtin.demo:Demo",
    "timer": "gateway.modules.builtin.timer:Timer",
    "initialize": "gateway.modules.builtin.initialize:Initialize",
    "mirror": "gateway.modules.builtin.mirror:Mirror",
    "log": "gateway.modules.builtin.log:Log",
    "print": "gateway.modules.builtin.log:Print",
    "record_json": "gateway.modules.builtin.recording:RecordJson",
    "replay_json": "gateway.modules.builtin.recording:ReplayJson",
    "upstream": "gateway.modules.builtin.upstream:Upstream",
    "http_poll": "gateway.modules.builtin.http_poll:HttpPoll",
}


class ModuleLoader:
    """The modules of one gateway.

    Args:
        engine: The engine.
        router: Where modules may add routes.
        folder: Where relative ``file.py:Class`` paths begin.
    """

    def __init__(self, engine: Engine, router: web.UrlDispatcher, folder: Path) -> None:
        self._engine = engine
        self._router = router
        self._folder = folder
        self._modules: list[tuple[Module, ModuleGateway]] = []

    def connect(self, declared: Sequence[ModuleOptions], places: Sequence[str]) -> None:
        """Make the modules and let them declare what they read and write.

        Args:
            declared: The modules.
            places: Where the channel file declares each of them.

        Raises:
            StartupError: One cannot be found, made or connected, or requires a channel that has no provider.
        """
        for options, place in zip(declared, places, strict=True):
            module, name = self._make(options, place)
            names = {gw.name for _, gw in self._modules}
            unique = name if name not in names else f"{name}_{len(self._modules) + 1}"
            gw = ModuleGateway(unique, self._engine, self._router)
            try:
                module.connect(gw)
            except Exception as error:
                raise StartupError(f"{place}: module {name}: {_reason(error)}") from error
            self._modules.append((module, gw))
        for module, gw in self._modules:
            for channel in getattr(module, "requires", ()):
                found = self._engine.channels.get(channel)
                if found is None or not found.is_provided:
                    raise StartupError(f"module {gw.name} needs the channel {channel!r}, which nothing provides")

    async def start(self) -> None:
        """Start every module, in the order of the file.

        Raises:
            StartupError: A module failed to start.
        """
        for _, gw in self._modules:
            gw.is_running = True
        for module, gw in self._modules:
            try:
                await gw.run(module)
            except Exception as error:
                raise StartupError(f"module {gw.name} did not start: {error}") from error

    async def stop(self) -> None:
        """Stop every module, the last first."""
        for module, gw in reversed(self._modules):
            await gw.end(module)

    def _make(self, options: ModuleOptions, place: str) -> tuple[Module, str]:
        try:
            factory = load_class(BUILT_IN.get(options.use, options.use), self._folder)
        except (LoadError, ValueError) as error:
            close = difflib.get_close_matches(options.use, BUILT_IN, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise StartupError(f"{place}: module {options.use!r}: {error}{hint}") from error
        name = options.name or str(getattr(factory, "__name__", options.use))
        try:
            module = factory(**options.arguments)
        except Exception as error:
            raise StartupError(f"{place}: module {name}: {_reason(error)}") from error
        try:
            for method in ("connect", "start", "stop"):
                if not hasattr(module, method):  # a plain class; every method is optional
                    setattr(module, method, getattr(Module, method).__get__(module))
        except AttributeError as error:
            raise StartupError(
                f"{place}: module {name}: {options.use} makes a {type(module).__name__}, not a module"
            ) from error
        return module, name


def _reason(error: Exception) -> str:
    """What a module raised: the words of an expected kind, else with the place in its code."""
    if isinstance(error, (KeyError, ValueError, TypeError)):
        return str(error.args[0] if error.args else error)
    return describe_failure(error)
