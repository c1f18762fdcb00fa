"""What a metaserver counts of its partitions while it runs, for their metrics (specification appendix A)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from metaserver import health
from metaserver.metadata import Partition
from shared.pegasus.wire.structures.base import Gpid


@dataclass
class Counts:
    """How often something has happened to each partition in this process's life.

    Attributes:
        changes: Its configuration has changed.
        became_writable: It came to take writes.
        became_unwritable: It ceased to.
        moved: It was given to another server.
        undecided: It had no primary, and no server was fit to be one.
    """

    changes: Counter[Gpid] = field(default_factory=Counter)
    became_writable: Counter[Gpid] = field(default_factory=Counter)
    became_unwritable: Counter[Gpid] = field(default_factory=Counter)
    moved: Counter[Gpid] = field(default_factory=Counter)
    undecided: Counter[Gpid] = field(default_factory=Counter)

    def changed(self, gpid: Gpid, before: Partition, after: Partition, required: int) -> None:
        """Count a change of a configuration.

        Args:
            required: The members that a partition needs to take writes.
        """
        self.changes[gpid] += 1
        was_writable = health.is_writable(before, required)
        if was_writable != health.is_writable(after, required):
            (self.became_unwritable if was_writable else self.became_writable)[gpid] += 1
