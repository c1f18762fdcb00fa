"""What the real client does, timed: run by the classic environment's Python with the address of a server.

Prints the median time of each task, in milliseconds, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import dask
import intake

TASKS: dict[str, Callable[[Any], object]] = {
    "open and list": list,
    "text, 1000 lines": lambda catalog: catalog["text"].read(),
    "CSV, 100k rows": lambda catalog: catalog["csv_100k"].read(),
    "Parquet, 100k rows": lambda catalog: catalog["parquet_100k"].read(),
    "Parquet, 1M rows": lambda catalog: catalog["parquet_1m"].read(),
    "array of 100 MB in 10 blocks": lambda catalog: catalog["array_10mb"].read(),
    "array of 100 MB in one block": lambda catalog: catalog["array_100mb"].read(),
}
REPEATS = 3


def main() -> None:
    """Time every task against the server at the address given."""
    dask.config.set(scheduler="threads")
    times = {name: median(_time(sys.argv[1], task) for _ in range(REPEATS)) for name, task in TASKS.items()}
    print(json.dumps(times))


def _time(address: str, task: Callable[[Any], object]) -> float:
    started = time.perf_counter()
    task(intake.open_catalog(address))
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    main()
