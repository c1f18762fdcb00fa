"""The benchmark's reference: csp-gateway itself with the benchmark's channels. Runs in an environment of its own.

usage: python reference.py PORT

Its own demonstration modules run beside them, as they do in ours.
"""

from __future__ import annotations

import sys
from typing import Annotated

from csp import ts
from csp_gateway import (
    Gateway,
    GatewayModule,
    GatewaySettings,
    GatewayStruct,
    MountControls,
    MountRestRoutes,
    MountWebSocketRoutes,
    State,
)
from csp_gateway.server.demo import ExampleGatewayChannels, ExampleModule, ExampleModuleFeedback


class BenchData(GatewayStruct):
    """About 115 bytes of JSON."""

    k: str
    v: float
    seq: int
    t: float


class BenchFree(BenchData):
    """The same, not kept for lookup."""


BenchFree.omit_from_lookup()


class BenchChannels(ExampleGatewayChannels):
    """The demonstration's channels and the benchmark's."""

    bench: ts[BenchData] = None
    bench_free: ts[BenchFree] = None
    bench_state: Annotated[ts[BenchFree], State(("k",))] = None


class BenchSend(GatewayModule):
    """Clients may tick the benchmark's channels."""

    def connect(self, channels: BenchChannels) -> None:
        channels.add_send_channel(BenchChannels.bench)
        channels.add_send_channel(BenchChannels.bench_free)
        channels.add_send_channel(BenchChannels.bench_state)


def main() -> None:
    modules = [
        BenchSend(),
        ExampleModule(),
        ExampleModuleFeedback(),
        MountControls(),
        MountRestRoutes(force_mount_all=True),
        MountWebSocketRoutes(),
    ]
    settings = GatewaySettings(BIND="127.0.0.1", PORT=int(sys.argv[1]))
    Gateway(settings=settings, modules=modules, channels=BenchChannels()).start(rest=True, ui=False)


if __name__ == "__main__":
    main()
