"""Channels of csp-gateway as a team would have them, and a server for them; runs in an environment of its own.

usage: python csp_gateway_desk.py PORT
"""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Annotated, Any, Literal

import csp
import numpy as np
from csp import ts
from csp.typing import Numpy1DArray
from csp_gateway import (
    Controls,
    Gateway,
    GatewayChannels,
    GatewayModule,
    GatewaySettings,
    GatewayStruct,
    MountControls,
    MountFieldRestRoutes,
    MountRestRoutes,
    MountWebSocketRoutes,
    Stage,
    State,
)
from pydantic import BaseModel, Field


class Side(Enum):
    BUY = "buy"
    SELL = "sell"


class Level(csp.Enum):
    LOW = 1
    HIGH = 2


class Venue(Enum):
    NYSE = 1
    LSE = 2


class Terms(BaseModel):
    days: int = 2


class Leg(GatewayStruct):
    symbol: str
    ratio: float = 1.0


class Order(GatewayStruct):
    symbol: str = ""
    quantity: int = Field(default=0, ge=0)
    price: Annotated[float, Field(gt=0, lt=1e6)] = 1.0
    side: Side = Side.BUY
    level: Level = Level.LOW
    tag: Literal["a", "b"] = "a"
    when: datetime
    day: date = date(2024, 1, 2)
    at: time = time(3, 4)
    span: timedelta = timedelta(seconds=90)
    legs: list[Leg] = []  # noqa: RUF012
    first: Leg
    names: set[str] = set()  # noqa: RUF012
    terms: Terms = Terms()
    sizes: Numpy1DArray[float] = np.array([])
    maybe: int | None = None
    either: int | str = 3
    anything: Any = None
    book: dict[str, list[float]] = {}  # noqa: RUF012
    code: Annotated[str, Field(pattern="^[A-Z]+$", min_length=1, max_length=8)] = "X"


class Note(GatewayStruct):
    text: str = ""


Note.omit_from_lookup()


class DeskChannels(GatewayChannels):
    """One channel of every kind."""

    about: dict[str, str] = {"name": "Desk"}  # noqa: RUF012
    orders: Annotated[ts[Order], State(("symbol",)), Stage()] = None
    fills: Annotated[ts[list[Order]], State(("symbol", "side"), alias="fills_by_side")] = None
    notes: ts[Note] = None
    venues: dict[Venue, ts[Leg]] = None
    desks: dict[str, ts[Leg]] = None
    never: ts[Leg] = None
    controls: ts[Controls] = None


class Clients(GatewayModule):
    """Clients may tick everything but one."""

    def dynamic_keys(self) -> dict[Any, list[Any]]:
        return {DeskChannels.desks: ["paris", "new york"]}

    def connect(self, channels: DeskChannels) -> None:
        channels.add_send_channel(DeskChannels.orders)
        channels.add_send_channel(DeskChannels.fills)
        channels.add_send_channel(DeskChannels.notes)
        for venue in Venue:
            channels.add_send_channel(DeskChannels.venues, venue)
        for desk in ("paris", "new york"):
            channels.add_send_channel(DeskChannels.desks, desk)


if __name__ == "__main__":
    modules = [
        Clients(),
        MountControls(),
        MountFieldRestRoutes(fields=["about"]),
        MountRestRoutes(force_mount_all=True),
        MountWebSocketRoutes(),
    ]
    settings = GatewaySettings(BIND="127.0.0.1", PORT=int(sys.argv[1]), TITLE="Desk")
    Gateway(settings=settings, modules=modules, channels=DeskChannels()).start(rest=True, ui=False)
