"""Whether the simulation finds faults: each is put into a copy of the cores, and seeds are run until one fails."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]
MEMBER = "replicaserver/replication/member.py"
PRIMARY = "replicaserver/replication/primary.py"
LIST = "replicaserver/replication/prepare_list.py"
PLACEMENT = "metaserver/cluster/placement.py"
CONFIGURATIONS = "metaserver/cluster/configurations.py"


@dataclass(frozen=True)
class Mutant:
    """One fault.

    Attributes:
        name: What it does wrong.
        path: The file that it is in.
        right: The code as it is.
        wrong: What stands there instead.
    """

    name: str
    path: str
    right: str
    wrong: str


MUTANTS = [
    Mutant(
        "a secondary acknowledges before its disk has the entry",
        MEMBER,
        "decree = min(self.logged, self._matched)",
        "decree = self._matched",
    ),
    Mutant(
        "the primary commits before its own disk has the entry",
        PRIMARY,
        "return min([logged, *acknowledged])",
        "return min([logged + 20, *acknowledged])",
    ),
    Mutant(
        "a decree is committed without a secondary",
        PRIMARY,
        "acknowledged = [follower.acknowledged for follower in self.secondaries.values()]",
        "acknowledged = [follower.acknowledged for follower in self.secondaries.values()][:1]",
    ),
    Mutant(
        "a proposed secondary does not count until it is granted",
        PRIMARY,
        "if self.proposed is not None:\n            joining",
        "if False and self.proposed is not None:\n            joining",
    ),
    Mutant(
        "a primary restarts with the same ballot",
        MEMBER,
        "            return self._ask(configuration, is_restart=True)  # only",
        "            self.configuration = Configuration(ballot=self.ballot - 1)\n"
        "            return self._granted(configuration)  # only",
    ),
    Mutant(
        "a prepare of an older ballot is accepted",
        MEMBER,
        "        if configuration.ballot < max(self.ballot, self._seen_ballot) or configuration.primary == self.node:",
        "        if configuration.primary == self.node:",
    ),
    Mutant(
        "an entry of another primary counts as received",
        MEMBER,
        "(known is None or known.ballot != entry.ballot)",
        "known is None",
    ),
    Mutant(
        "a new primary drops its uncommitted tail",
        MEMBER,
        "        for entry in tail:\n            self.prepared.append(entry)\n        self._term",
        "        tail = []\n        self._term",
    ),
    Mutant(
        "a new primary serves before its tail is committed",
        MEMBER,
        " or self.committed < primary.tail:",
        ":",
    ),
    Mutant(
        "reads go on after the lease",
        MEMBER,
        "if primary is None or not self._may_serve() or",
        "if primary is None or",
    ),
    Mutant(
        "a committed point covers entries that this primary did not prepare",
        MEMBER,
        "return self._commit(min(self._told, self._matched, self.logged))",
        "return self._commit(min(self._told, self.prepared.last))",
    ),
    Mutant(
        "a gap in the prepares is passed over",
        MEMBER,
        "            if entry.decree > self._matched + 1:",
        "            if entry.decree > self.prepared.last + 1:",
    ),
    Mutant(
        "a learner keeps its own uncommitted tail",
        MEMBER,
        "            self._term, self._matched = check.term, self.committed\n"
        "            self.prepared.truncate(self.committed)",
        "            self._term, self._matched = check.term, self.prepared.last\n            pass",
    ),
    Mutant(
        "a learner is ready before its disk has what it learned",
        MEMBER,
        "        is_here = self.logged >= learned_to and self.prepared.last >= learned_to",
        "        is_here = True",
    ),
    Mutant(
        "a learner becomes a secondary before it has caught up",
        PRIMARY,
        "if learner.has_learned and learner.acknowledged >= max(committed, self.tail) and",
        "if learner.has_learned and",
    ),
    Mutant(
        "a learner need not have the tail of the primary before",
        PRIMARY,
        "learner.acknowledged >= max(committed, self.tail)",
        "learner.acknowledged >= committed",
    ),
    Mutant(
        "an acknowledgement of an earlier term counts",
        MEMBER,
        "if answer.ballot < primary.term or answer.signature != follower.signature:",
        "if answer.signature != follower.signature:",
    ),
    Mutant(
        "the metaserver makes the member with the shorter history the primary",
        PLACEMENT,
        "    best = max(known, key=lambda name: _history(known[name]))",
        "    best = min(known, key=lambda name: _history(known[name]))",
    ),
    Mutant(
        "the metaserver grants any ballot",
        CONFIGURATIONS,
        "    if proposed.ballot != partition.ballot + 1:",
        "    if proposed.ballot <= 0:",
    ),
    Mutant(
        "any dead member may be replaced by an empty one",
        PLACEMENT,
        "    if not partition.last_drops:\n        chosen",
        "    if True:\n        chosen",
    ),
]


def seeds_until_found(mutant: Mutant, most: int) -> int | None:
    """How many seeds it takes; None when none of them fails."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("replicaserver", "metaserver", "shared", "tests"):
            shutil.copytree(ROOT / name, Path(folder) / name, ignore=shutil.ignore_patterns("__pycache__"))
        path = Path(folder) / mutant.path
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.right) != 1:
            raise click.ClickException(f"{mutant.name}: its code is in {mutant.path} {text.count(mutant.right)} times")
        path.write_text(text.replace(mutant.right, mutant.wrong), encoding="utf-8")
        script = (
            "import sys\nfrom tests.simulation.run import simulate\n"
            f"for seed in range(1, {most} + 1):\n"
            "    try:\n        simulate(seed)\n"
            "    except Exception:\n        print(seed)\n        sys.exit()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": folder},
            capture_output=True,
            text=True,
            check=True,
        )
    return int(done.stdout) if done.stdout.strip() else None


@click.command()
@click.option("--seeds", default=500, show_default=True, help="After so many seeds a fault counts as not found.")
@click.option("--only", default="", help="Run only faults with this in their names.")
def main(seeds: int, only: str) -> None:
    """Put one fault after the other into a copy of the replication cores, and count the seeds that find it."""
    found: list[int] = []
    missed: list[str] = []
    for mutant in MUTANTS:
        if only not in mutant.name:
            continue
        number = seeds_until_found(mutant, seeds)
        click.echo(f"{'not found' if number is None else number:>10}  {mutant.name}")
        if number is None:
            missed.append(mutant.name)
        else:
            found.append(number)
    if found:
        click.echo(f"{len(found)} found, median {statistics.median(found):g} seeds, {len(missed)} not found")
    if missed:
        raise click.ClickException(f"not found in {seeds} seeds: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
