"""The calls that both daemons answer: settings, version, start time, table environments."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version

from aiohttp import web

from shared.pegasus.serving.http import answer, arguments
from shared.pegasus.serving.json_format import Table, tables
from shared.pegasus.settings.flags import FlagError, Flags
from shared.pegasus.wire.errors import ErrorCode

__all__ = ["PEGASUS_VERSION", "CommonRoutes"]

PEGASUS_VERSION = "2.6.0-SNAPSHOT"
"""The version of Apache Pegasus whose interface the daemons have."""


@dataclass(frozen=True)
class CommonRoutes:
    """Handlers of the common calls.

    Attributes:
        flags: The settings of this process.
        started_s: When the process started, in unix seconds.
    """

    flags: Flags
    started_s: float

    async def config(self, request: web.Request) -> web.Response:
        """One setting (§4.5)."""
        if not arguments(request).keys() <= {"name"}:
            return answer(status=400)
        name = arguments(request).get("name", "")
        if not name:
            return answer("name shouldn't be empty", 400)
        if name not in self.flags.catalog:
            return answer(f"{ErrorCode.ERR_OBJECT_NOT_FOUND}: '{name}' is not found")
        return answer(tables(Table().add_all(self.flags.describe(name).items())))

    async def configs(self, request: web.Request) -> web.Response:
        """All settings, by name (§4.4)."""
        if arguments(request):
            return answer(status=400)
        columns = ("section", "type", "tags", "description", "value")
        listed = Table(title="name", columns=columns)
        for name in sorted(self.flags.catalog):
            shown = self.flags.describe(name)
            listed.add(name, *(shown[column] for column in columns))
        return answer(tables(listed))

    async def update_config(self, request: web.Request) -> web.Response:
        """Change one setting (§4.6)."""
        status: str = ErrorCode.ERR_OK
        notes: list[tuple[str, str]] = []
        if len(arguments(request)) != 1:
            status = f"{ErrorCode.ERR_INVALID_PARAMETERS}: there should be exactly one config to be updated once"
        else:
            ((name, value),) = arguments(request).items()
            try:
                self.flags.update(name, value)
            except FlagError as error:
                status = str(error)
            else:
                if not self.flags.has_effect(name):
                    notes.append(("note", f"nothing in this process depends on {name}"))
        return answer(tables(Table().add_all([("update_status", status), *notes])))

    async def version(self, _request: web.Request) -> web.Response:
        """The version of the interface, and ours (§4.2)."""
        shown = Table().add_all([("Version", PEGASUS_VERSION), ("GitCommit", f"entrepot-{version('entrepot')}")])
        return answer(tables(shown))

    async def recent_start_time(self, _request: web.Request) -> web.Response:
        """When the process started, local time (§4.3)."""
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started_s))
        return answer(tables(Table().add_all([("RecentStartTime", started)])))
