"""`--help` answers at once: no daemon imports its libraries, or another module of its own than it must, for it."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest

from shared.cli import DaemonGroup

DAEMONS = ("iserver", "metaserver", "replicaserver", "intake_server", "gateway")
ALLOWED = {"click", "shared", "_virtualenv", "sitecustomize"}
"""What `--help` of every daemon may import besides the standard library and the daemon's own `cli` and `settings`."""

PRINT_IMPORTED = """
import sys
from click.testing import CliRunner
before = set(sys.modules)
import importlib
main = importlib.import_module(sys.argv[1] + ".cli").main
sys.argv[0] = sys.argv[1]
try:
    main(["--help"], standalone_mode=False)
except SystemExit:
    pass
for name in sorted(set(sys.modules) - before):
    print("imported", name)
"""


def imported_for_help(daemon: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", PRINT_IMPORTED, daemon], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("imported ")]


@pytest.mark.parametrize("daemon", DAEMONS)
def test_help_imports_neither_a_library_nor_the_daemon_behind_it(daemon: str):
    own = {daemon, f"{daemon}.cli", f"{daemon}.settings"}
    foreign = [
        name
        for name in imported_for_help(daemon)
        if name not in own and name.split(".")[0] not in ALLOWED | set(sys.stdlib_module_names)
    ]
    assert foreign == []


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_list_of_commands_says_of_each_what_its_own_help_says(daemon: str):
    group = importlib.import_module(f"{daemon}.cli").main
    assert isinstance(group, DaemonGroup)
    context = click.Context(group)
    for name, lazy in group.lazy_commands.items():
        command = group.get_command(context, name)
        assert command is not None
        assert (command.name, command.get_short_help_str(1000)) == (name, lazy.short_help)
