"""What a daemon counts of the RPCs that it answers."""

from __future__ import annotations

from collections.abc import Callable

from shared.pegasus.metrics.entities import Registry

Observe = Callable[[str, int, int, int], None]


def profiler(registry: Registry) -> Observe:
    """Keeps a ``profiler`` entity for every RPC code that was answered; the setting ``is_profile`` asks for it.

    Returns:
        A function to call after every answer with its code, the bytes of the request and of the answer, and how long
        it took, in nanoseconds.
    """
    seen: dict[str, Observe] = {}

    def entity(code: str) -> Observe:
        metrics = registry.entity("profiler", f"task@{code}", {"task_name": code})
        executed = metrics.counter("profiler_executed_tasks")
        latency = metrics.percentile("profiler_server_rpc_latency_ns").observe
        asked = metrics.percentile("profiler_server_rpc_request_bytes").observe
        answered = metrics.percentile("profiler_server_rpc_response_bytes").observe

        def count(_code: str, request_bytes: int, response_bytes: int, elapsed_ns: int) -> None:
            executed.value += 1
            latency(elapsed_ns)
            asked(request_bytes)
            answered(response_bytes)

        return count

    def observe(code: str, request_bytes: int, response_bytes: int, elapsed_ns: int) -> None:
        count = seen.get(code)
        if count is None:
            count = seen[code] = entity(code)
        count(code, request_bytes, response_bytes, elapsed_ns)

    return observe
