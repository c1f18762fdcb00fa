"""Virtual environments of real clients, made once and kept in the user's cache folder.

A client whose requirements would clash with ours lives in an environment of its own. It is found again by the list of
its requirements; one that was not finished is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

INSTALL_TIMEOUT_S = 600


def cache_folder() -> Path:
    """Where the tests keep what they fetched from a package registry."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "entrepot-tests"


def client_python(name: str, *requirements: str) -> Path:
    """The interpreter of an environment that holds exactly these requirements.

    Args:
        name: What the environment is called, such as ``intake-0.7.0``.
        requirements: As pip takes them.
    """
    key = hashlib.sha256("\n".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{key}"
    python = folder / "bin" / "python"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers ask for the same environment at the same time
        if not (folder / "finished").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=INSTALL_TIMEOUT_S)
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements]
            subprocess.run(pip, check=True, timeout=INSTALL_TIMEOUT_S)
            (folder / "finished").touch()
    return python


def run_client(
    python: Path, script: str, *arguments: str, env: Mapping[str, str] | None = None, timeout_s: float = 90
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
