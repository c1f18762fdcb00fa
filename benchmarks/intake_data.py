"""The data of the catalog server's benchmark, made once and kept in the user's cache.

Ten columns: six of floats, two of integers, two of text; one array of 100 MiB; catalogs of 8 and of 1000 entries.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from benchmarks.harness import cache_folder, say

ARRAY_LENGTH = 100 * 2**20 // 8
BLOCK_LENGTH = ARRAY_LENGTH // 10
MANY = 1000
_FORM = "2"


@dataclass(frozen=True, slots=True)
class Data:
    """Where the catalogs are.

    Attributes:
        small: Eight entries, one for each kind of read.
        large: A thousand entries.
    """

    small: Path
    large: Path


def prepare() -> Data:
    """Make what is missing."""
    folder = cache_folder(f"intake-data-{_FORM}")
    data = Data(folder / "small.yaml", folder / "large.yaml")
    if not (folder / "complete").exists():
        say(f"making the data in {folder}")
        _make_files(folder)
        data.small.write_text(yaml.safe_dump({"sources": _small()}, sort_keys=False))
        data.large.write_text(yaml.safe_dump({"sources": _large()}, sort_keys=False))
        (folder / "complete").touch()
    return data


def _make_files(folder: Path) -> None:
    (folder / "lines.txt").write_text("".join(f"line {n} of a text that nobody reads\n" for n in range(1000)))
    _frame(20).to_csv(folder / "few.csv", index=False)
    _frame(100_000).to_csv(folder / "rows_100k.csv", index=False, float_format="%.6f")
    _frame(1_000_000).to_csv(folder / "rows_1m.csv", index=False, float_format="%.6f")
    for name, rows in (("rows_100k", 100_000), ("rows_1m", 1_000_000)):
        pq.write_table(pa.Table.from_pandas(_frame(rows)), folder / f"{name}.parquet", row_group_size=rows)
    np.save(folder / "array.npy", np.random.default_rng(1).random(ARRAY_LENGTH))


def _frame(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(rows)
    columns: dict[str, object] = {f"f{n}": random.normal(size=rows) for n in range(6)}
    columns |= {f"i{n}": random.integers(0, 1000, rows) for n in range(2)}
    words = np.array([f"word{n:03d}" for n in range(1000)], dtype=object)
    columns |= {f"s{n}": random.choice(words, rows) for n in range(2)}
    return pd.DataFrame(columns)


def _small() -> dict[str, object]:
    def entry(driver: str, access: str = "forbid", **args: object) -> dict[str, object]:
        return {"driver": driver, "description": f"{driver} data", "direct_access": access, "args": args}

    return {
        "text": entry("textfiles", urlpath="{{ CATALOG_DIR }}/lines.txt"),
        "csv_few": entry("csv", urlpath="{{ CATALOG_DIR }}/few.csv"),
        "csv_direct": entry("csv", "allow", urlpath="{{ CATALOG_DIR }}/few.csv"),
        "csv_100k": entry("csv", urlpath="{{ CATALOG_DIR }}/rows_100k.csv"),
        "csv_1m": entry("csv", urlpath="{{ CATALOG_DIR }}/rows_1m.csv"),
        "parquet_100k": entry("parquet", urlpath="{{ CATALOG_DIR }}/rows_100k.parquet"),
        "parquet_1m": entry("parquet", urlpath="{{ CATALOG_DIR }}/rows_1m.parquet"),
        "array_10mb": entry("numpy", path="{{ CATALOG_DIR }}/array.npy", chunks=BLOCK_LENGTH),
        "array_100mb": entry("numpy", path="{{ CATALOG_DIR }}/array.npy", chunks=ARRAY_LENGTH),
    }


def _large() -> dict[str, object]:
    return {
        f"entry_{n:04d}": {
            "driver": "csv",
            "description": f"data set number {n} of the benchmark",
            "direct_access": "allow",
            "metadata": {"owner": "benchmark", "number": n},
            "args": {"urlpath": "{{ CATALOG_DIR }}/few.csv"},
        }
        for n in range(MANY)
    }
