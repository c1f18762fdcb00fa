"""The definitions that sessions in a journal refer to: compiled when needed, and forgotten when unused.

Every FDL that was ever in force is stored before a session uses it, and most of them are not needed after a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from iserver.evaluation.definition import Definition
from iserver.fdl import SourceFile, compile_program


class StoredDefinitions(Mapping[str, Definition]):
    """Definitions by fingerprint."""

    def __init__(self) -> None:
        self._compiled: dict[str, Definition] = {}
        self._sources: dict[str, bytes] = {}

    def add(self, definition: Definition) -> None:
        """Take a definition."""
        self._compiled[definition.fingerprint] = definition

    def add_sources(self, fingerprint: str, sources: bytes) -> None:
        """Take a definition as it is stored, see `encode`; it is compiled when it is looked up."""
        self._sources[fingerprint] = sources

    @property
    def unused(self) -> list[str]:
        """Fingerprints of what was never looked up."""
        return list(self._sources)

    def forget_unused(self) -> None:
        """Forget what was never looked up."""
        self._sources.clear()

    def __getitem__(self, fingerprint: str) -> Definition:
        found = self._compiled.get(fingerprint)
        if found is None:
            files = [SourceFile(name, text) for name, text in orjson.loads(self._sources[fingerprint])]
            found = self._compiled[fingerprint] = Definition(compile_program(files, is_stored=True))
            del self._sources[fingerprint]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([*self._compiled, *self._sources])

    def __len__(self) -> int:
        return len(self._compiled) + len(self._sources)


def encode(definition: Definition) -> bytes:
    """The FDL of a definition, to be stored."""
    return orjson.dumps([[source.name, source.text] for source in definition.program.sources])
