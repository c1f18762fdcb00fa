"""The units for systemd are valid and sandboxed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.requires import program

UNITS = Path(__file__).parents[1] / "scripts" / "systemd"
SERVICES = sorted(UNITS.glob("*.service"))
EXPOSURE_LIMIT = 2.0


def test_there_is_a_service_for_every_daemon_and_a_target_for_all():
    names = {path.stem for path in SERVICES}
    assert names == {"iserver", "metaserver", "replicaserver", "intake_server", "gateway"}
    wanted = (UNITS / "entrepot.target").read_text()
    assert all(f"{name}.service" in wanted for name in names)


def test_systemd_finds_nothing_wrong_with_the_units():
    analyze = program("systemd-analyze", "systemd")
    units = [str(path) for path in (*SERVICES, UNITS / "entrepot.target")]
    verified = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.stem)
def test_a_service_is_hardly_exposed(unit: Path):
    analyze = program("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", str(unit)]
    report = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    exposure = re.search(r"Overall exposure level for \S+: ([\d.]+)", report)
    assert exposure, report
    assert float(exposure[1]) <= EXPOSURE_LIMIT
