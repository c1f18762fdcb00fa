"""Real clients that tests run, each in an environment of its own, made once and kept in the user's cache folder.

`python -m tests.conformance.prepare` makes them all before the tests; a test only looks them up, so that no test
installs anything inside its own time. An environment is found again by what it is made of.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.requires import program

INSTALL_TIMEOUT_S = 1800
PREPARING = "ENTREPOT_PREPARE_CLIENTS"
"""The environment variable that `tests.conformance.prepare` sets: only then may something be installed."""

_INTAKE_MAY_2023 = (
    "intake==0.7.0", "dask[dataframe]==2023.5.0", "pandas==2.0.*", "numpy==1.24.*", "pyarrow==12.*", "msgpack==1.0.5",
    "fsspec==2023.5.0", "requests", "setuptools<81", "msgpack-numpy",
)  # fmt: skip
_INTAKE_CURRENT = (
    "intake==0.7.0", "dask[dataframe]", "pandas", "pyarrow", "msgpack", "msgpack-numpy", "python-snappy", "fsspec",
    "requests",
)  # fmt: skip
_FILE_READER = ("aiohttp", "numpy<2.3", "requests", "jinja2", "dask[dataframe]", "pandas", "msgpack")

PYTHON_CLIENTS: Mapping[str, Sequence[str]] = {
    "intake-0.7.0": ("intake==0.7.0", "dask[dataframe]", "pyarrow", "msgpack", "requests", "pandas", "fsspec"),
    "intake-current": _INTAKE_CURRENT,
    "intake-sql": (*_INTAKE_CURRENT, "intake-sql==0.4.0"),
    "intake-may-2023": (*_INTAKE_MAY_2023, "intake-parquet==0.3.0"),
    "intake-file-0.7.0": ("intake==0.7.0", *_FILE_READER),
    "intake-file-2.0.9": ("intake==2.0.9", *_FILE_READER),
    "intake-xarray-may-2023": (
        *_INTAKE_MAY_2023, "intake-xarray==0.7.0", "xarray==2023.5.0", "zarr==2.14.2", "numcodecs<0.12",
    ),
    "intake-xarray-current": (
        "intake==0.7.0", "intake-xarray==0.7.0", "dask[dataframe]", "pandas", "pyarrow", "msgpack", "msgpack-numpy",
        "fsspec", "requests", "xarray", "zarr>=3", "setuptools<81",
    ),
    "csp-gateway-client-3.0.0": (
        "csp-gateway-client==3.0.0", "csp==0.19.1", "aiohttp>=3.12", "aiostream>=0.6", "orjson>=3.10", "pandas>=2.2",
        "polars>=1.30",
    ),
    "csp-gateway-3.0.0": ("csp-gateway==3.0.0", "csp==0.19.1"),
    "openfeature": ("openfeature-sdk>=0.8", "openfeature-provider-ofrep>=0.1"),
    "pypegasus3-0.0.1.1": ("pypegasus3==0.0.1.1", "setuptools<81"),
}  # fmt: skip
"""What each client's virtual environment holds: those whose requirements would clash with ours."""


def cache_folder() -> Path:
    """Where the tests keep what they fetched from a package registry."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "entrepot-tests"


def client_python(name: str) -> Path:
    """The interpreter of an environment that holds exactly what `PYTHON_CLIENTS` names."""
    requirements = PYTHON_CLIENTS[name]

    def build(folder: Path) -> None:
        run_tool([sys.executable, "-m", "venv", folder], folder.parent)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run_tool([*pip, "--retries", "10", *requirements], folder.parent)

    return made(name, repr((sys.version, *requirements)), build) / "bin" / "python"


def node_packages(name: str, *packages: str) -> Path:
    """A folder with packages from the npm registry in `node_modules`."""
    return made(name, repr(packages), lambda folder: npm_install(packages, folder))


def npm_install(packages: Sequence[str], folder: Path) -> None:
    """Install packages from the npm registry into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    run_tool([program("npm", "npm"), "install", "--silent", "--no-audit", "--no-fund", *packages], folder)


def made(name: str, made_of: str | bytes, build: Callable[[Path], None]) -> Path:
    """A folder of the cache that was built from something, and that is built again when that has changed.

    Args:
        name: What the folder is called.
        made_of: What it is built from, in whole; another text is another folder.
        build: Builds it; the folder does not exist then.
    """
    key = hashlib.sha256(made_of if isinstance(made_of, bytes) else made_of.encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    if not (folder / "finished").exists():
        if not os.environ.get(PREPARING):
            pytest.fail(f"the client {name} is not prepared: run .venv/bin/python -m tests.conformance.prepare")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another checkout may prepare the same
            if not (folder / "finished").exists():
                shutil.rmtree(folder, ignore_errors=True)
                build(folder)
                (folder / "finished").touch()
    return folder


def run_tool(command: Sequence[str | Path], folder: Path) -> None:
    """Run a tool that builds a client; an AssertionError has what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    assert done.returncode == 0, f"{command[0]}: exit status {done.returncode}\n{done.stdout}{done.stderr}"


def run_client(
    python: Path, script: str, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 300
) -> str:
    """Run a script in a client's environment, away from our own packages; its standard output.

    Raises:
        AssertionError: The script failed; the message has all that it printed.
    """
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    command: Sequence[str | Path] = [python, "-c", script, *arguments]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=cache_folder(),
        env={**kept, **(env or {})},
        check=False,
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
