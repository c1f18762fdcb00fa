"""The published FDL compiler as an oracle, and a reader of the DDL that it and we write.

The compiler is fetched from the npm registry into the user's cache folder; nothing of it is kept here.
"""

from __future__ import annotations

import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.environments import made, run_tool
from tests.requires import program

COMPILER = "@causal/compiler@0.39.0"
DIALECTS = ("hive", "snowflake", "redshift")
REDSHIFT_SCHEMA = "x"
PROCESSES = 2


@dataclass(frozen=True)
class Verdict:
    """What the compiler said about a program.

    Attributes:
        accepted: Whether it wrote anything.
        printed: Its messages.
        ddl: The text it wrote, by dialect; empty when it rejected the program.
    """

    accepted: bool
    printed: str
    ddl: Mapping[str, str]


def compiler_jar() -> Path:
    """The published compiler."""

    def build(folder: Path) -> None:
        folder.mkdir()
        run_tool([program("npm", "npm"), "pack", "--silent", COMPILER], folder)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            archive.extractall(folder, filter="data")

    return made("causal-compiler", COMPILER, build) / "package" / "lib" / "java" / "causal-compiler.jar"


def judge(programs: Mapping[str, Sequence[Path]], work: Path) -> dict[str, Verdict]:
    """Run the compiler on every program; a second a program would be spent on starting Java alone.

    Args:
        programs: The files of each program, in order.
        work: An empty folder for what it writes.
    """
    names = sorted(programs)
    with ThreadPoolExecutor(PROCESSES) as pool:
        shares = [names[number::PROCESSES] for number in range(PROCESSES)]
        parts = pool.map(lambda share: _judge({name: programs[name] for name in share}, work), shares)
        return {name: verdict for part in parts for name, verdict in part.items()}


def _judge(programs: Mapping[str, Sequence[Path]], work: Path) -> dict[str, Verdict]:
    calls = work / f"{next(iter(programs))}.calls"
    calls.write_text("".join(_call(name, files, work) for name, files in programs.items()))
    driver = Path(__file__).with_name("FdlOracle.java")
    java = [program("java", "openjdk-17-jdk-headless"), "-Djava.security.manager=allow", "-XX:TieredStopAtLevel=1"]
    command = [*java, "-cp", str(compiler_jar()), str(driver), str(calls)]
    done = subprocess.run(command, cwd=work, capture_output=True, check=True, timeout=380, encoding="utf-8")
    return dict(_verdict(line, work) for line in done.stdout.splitlines())


def _call(name: str, files: Sequence[Path], work: Path) -> str:
    outputs = [word for dialect in DIALECTS for word in (f"--{dialect}", str(work / f"{name}.{dialect}"))]
    return "\t".join([name, *outputs, "--redshift-schema", REDSHIFT_SCHEMA, *map(str, files)]) + "\n"


def _verdict(line: str, work: Path) -> tuple[str, Verdict]:
    name, status, printed = line.split("\t", 2)
    written = {dialect: work / f"{name}.{dialect}" for dialect in DIALECTS} if status == "0" else {}
    return name, Verdict(status == "0", printed, {dialect: path.read_text() for dialect, path in written.items()})


# --- reading DDL ----------------------------------------------------------------------------------


def read_tables(text: str) -> dict[str, list[tuple[str, str]]]:
    """Tables with the names and types of their columns, in order; quotes, lengths and comments are dropped."""
    text = re.sub(r"--[^\n]*", "", text)
    tables: dict[str, list[tuple[str, str]]] = {}
    for found in re.finditer(r"create (?:or replace )?external table\s+(\S+?)\s*\(", text, re.IGNORECASE):
        body = text[found.end() : _closing(text, found.end())]
        tables[_plain(found[1]).removeprefix(f"{REDSHIFT_SCHEMA}.")] = [_column(item) for item in _items(body)]
    return tables


def _closing(text: str, start: int) -> int:
    """Offset of the parenthesis that closes one opened before `start`."""
    depth = 1
    for offset, character in _outside_texts(text, start):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return offset
    raise ValueError("no closing parenthesis")


def _items(body: str) -> Iterator[str]:
    depth, start = 0, 0
    for offset, character in _outside_texts(body, 0):
        depth += {"(": 1, "<": 1, ")": -1, ">": -1}.get(character, 0)
        if character == "," and depth == 0:
            yield body[start:offset]
            start = offset + 1
    yield body[start:]


def _outside_texts(text: str, start: int) -> Iterator[tuple[int, str]]:
    is_text = False
    for offset in range(start, len(text)):
        if text[offset] == "'" and text[offset - 1] != "\\":
            is_text = not is_text
        elif not is_text:
            yield offset, text[offset]


def _column(item: str) -> tuple[str, str]:
    name, rest = item.split(maxsplit=1)
    type_ = re.split(r"\s+(?:comment|as)\b", rest, maxsplit=1, flags=re.IGNORECASE)[0]
    return _plain(name), " ".join(re.sub(r"\(\d+\)", "", type_).lower().split())


def _plain(name: str) -> str:
    return name.replace('"', "").replace("`", "").lower()


def read_views(text: str) -> dict[str, tuple[set[tuple[str, str]], set[str]]]:
    """Hive's views: the event columns each unites, and the names of the event's fields it shows."""
    views: dict[str, tuple[set[tuple[str, str]], set[str]]] = {}
    for found in re.finditer(r"create or replace view\s+(\S+) as(.*?)(?:;|\Z)", text, re.IGNORECASE | re.DOTALL):
        source = r"from\s+(\S+)\s+(?:cross join unnest|lateral view explode)\s*\((\S+?)\)"
        sources = {(_plain(table), _plain(column)) for table, column in re.findall(source, found[2], re.IGNORECASE)}
        views[_plain(found[1])] = (sources, set(re.findall(r"event\.`?(\w+)`?", found[2])))
    return views
