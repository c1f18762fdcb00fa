"""Make everything that the tests run of other people's software: `python -m tests.conformance.prepare`.

What is there already is only looked at. One line a client says what was done and how long it took. Without a program
that a client needs it is left out, and named; the exit status is 1 when one could not be made.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial

import pytest

from tests.conformance import environments, fdl_oracle, iserver_clients

ATTEMPTS = 3
"""A package registry may fail now and then."""
AT_ONCE = 2


def clients() -> dict[str, Callable[[], object]]:
    """What makes each client, or finds it made."""
    return {
        **{name: partial(environments.client_python, name) for name in environments.PYTHON_CLIENTS},
        "causal-compiler": fdl_oracle.compiler_jar,
        "node-ws": iserver_clients.node_ws,
        "iserver-typescript": iserver_clients.typescript_client,
        "iserver-browser": iserver_clients.browser_page,
        "iserver-openfeature": iserver_clients.openfeature_node_client,
        "iserver-openfeature-web": iserver_clients.openfeature_page,
        "iserver-java": iserver_clients.java_client,
        "iserver-ruby": iserver_clients.ruby_client,
    }


def prepare(name: str, make: Callable[[], object]) -> tuple[bool, str]:
    """Make one client; whether it is there or may be left out, and a line that says so."""
    started_s = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            make()
        except pytest.skip.Exception as missing:
            return True, f"left out: {missing}"
        except (pytest.fail.Exception, AssertionError, OSError, ValueError) as error:
            if attempt == ATTEMPTS:
                return False, f"FAILED: {error}"
        else:
            break
    seconds = time.monotonic() - started_s
    return True, "ready" if seconds < 1 else f"made in {seconds:.0f} s"


def main() -> int:
    """Make all clients, two at a time; the exit status."""
    os.environ[environments.PREPARING] = "1"
    wanted = clients()
    failed = 0
    clients_first = ["causal-compiler"]  # others are built with it
    for names in (clients_first, [name for name in wanted if name not in clients_first]):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            running = {pool.submit(prepare, name, wanted[name]): name for name in names}
            for done in as_completed(running):
                is_there, line = done.result()
                failed += not is_there
                print(f"  {running[done]}: {line}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
