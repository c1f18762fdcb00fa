"""What `pip install` brings: everything that is needed, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("iserver", "metaserver", "replicaserver", "intake_server", "gateway", "shared")
DATA_SUFFIXES = {".lark", ".fdl", ".yml", ".json", ".png", ".html", ".css", ".js", ".svg", ".sql", ".typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of the files that git knows, built as a user's pip builds it."""
    checkout = tmp_path_factory.mktemp("checkout")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, tracked.split("\0")):
        source = ROOT / name
        if source.is_file():
            target = checkout / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(out), str(checkout)]
    subprocess.run(pip, check=True, timeout=100)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def test_every_module_and_data_file_of_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile):
    tracked = subprocess.run(["git", "ls-files", "-z", *PACKAGES], cwd=ROOT, capture_output=True, check=True)
    files = {name for name in tracked.stdout.decode().split("\0") if name and (ROOT / name).is_file()}
    assert files - set(wheel.namelist()) == set()


def test_nothing_but_the_packages_is_in_the_wheel(wheel: zipfile.ZipFile):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    assert not [name for name in wheel.namelist() if "/test" in name]


def test_every_file_in_the_wheel_is_code_or_a_known_kind_of_data(wheel: zipfile.ZipFile):
    inside = [Path(name) for name in wheel.namelist() if ".dist-info/" not in name]
    strange = [str(path) for path in inside if path.suffix not in DATA_SUFFIXES | {".py"} and path.name != "py.typed"]
    assert strange == []


def test_the_five_commands_are_installed(wheel: zipfile.ZipFile):
    (entry_points,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    text = wheel.read(entry_points).decode()
    for command in ("iserver", "metaserver", "replicaserver", "intake_server", "gateway"):
        assert f"{command} = {command}.cli:main" in text
