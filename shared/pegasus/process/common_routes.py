"""The calls that both daemons answer: settings, version, start time, table environments."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib.metadata import version

from shared.pegasus.serving.http import HttpRequest, Response
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

    def config(self, request: HttpRequest) -> Response:
        """One setting (§4.5)."""
        if not request.args.keys() <= {"name"}:
            return Response(status=400)
        name = request.args.get("name", "")
        if not name:
            return Response.text("name shouldn't be empty", 400)
        if name not in self.flags.catalog:
            return Response.text(f"{ErrorCode.ERR_OBJECT_NOT_FOUND}: '{name}' is not found")
        return Response(tables(Table().add_all(self.flags.describe(name).items())))

    def configs(self, request: HttpRequest) -> Response:
        """All settings, by name (§4.4)."""
        if request.args:
            return Response(status=400)
        columns = ("section", "type", "tags", "description", "value")
        listed = Table(title="name", columns=columns)
        for name in sorted(self.flags.catalog):
            shown = self.flags.describe(name)
            listed.add(name, *(shown[column] for column in columns))
        return Response(tables(listed))

    def update_config(self, request: HttpRequest) -> Response:
        """Change one setting (§4.6)."""
        status: str = ErrorCode.ERR_OK
        notes: list[tuple[str, str]] = []
        if len(request.args) != 1:
            status = f"{ErrorCode.ERR_INVALID_PARAMETERS}: there should be exactly one config to be updated once"
        else:
            ((name, value),) = request.args.items()
            try:
                self.flags.update(name, value)
            except FlagError as error:
                status = str(error)
            else:
                if not self.flags.has_effect(name):
                    notes.append(("note", f"nothing in this process depends on {name}"))
        return Response(tables(Table().add_all([("update_status", status), *notes])))

    def version(self, _request: HttpRequest) -> Response:
        """The version of the interface, and ours (§4.2)."""
        shown = Table().add_all([("Version", PEGASUS_VERSION), ("GitCommit", f"entrepot-{version('entrepot')}")])
        return Response(tables(shown))

    def recent_start_time(self, _request: HttpRequest) -> Response:
        """When the process started, local time (§4.3)."""
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started_s))
        return Response(tables(Table().add_all([("RecentStartTime", started)])))
