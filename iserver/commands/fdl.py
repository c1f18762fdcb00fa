"""The commands that work on FDL files: `iserver check`, `iserver fmt` and `iserver ddl`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from iserver.fdl import FdlError, SourceFile, check, compile_program
from iserver.fdl.formatter import format_source
from iserver.warehouse.ddl import DIALECTS, Dialect, ddl
from iserver.warehouse.tables import FileFormat

FILES = click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)


def read_source(path: Path) -> SourceFile:
    """Read one FDL file; `-` is the standard input.

    Raises:
        click.ClickException: It is not UTF-8 text.
    """
    content = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    name = "<stdin>" if str(path) == "-" else str(path)
    try:
        return SourceFile(name, content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise click.ClickException(f"{name}: line {line}: not UTF-8 text ({error.reason})") from error


@click.command("check")
@FILES
def check_command(files: Sequence[Path]) -> None:
    """Check FDL files as one program, in the given order.

    Errors and warnings are printed with their positions; the exit status is 1 when there is an error.
    """
    diagnostics = check([read_source(path) for path in files])
    for diagnostic in diagnostics:
        click.echo(str(diagnostic))
    if any(diagnostic.is_error for diagnostic in diagnostics):
        sys.exit(1)


@click.command("fmt")
@FILES
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit with status 1 if a file would change.")
@click.option("--diff", is_flag=True, help="Change nothing; print what would change.")
def format_command(files: Sequence[Path], only_check: bool, diff: bool) -> None:
    """Format FDL files in place; `-` formats the standard input to the standard output."""
    changed = 0
    for path in files:
        source = read_source(path)
        try:
            formatted = format_source(source.text, source.name)
        except FdlError as error:
            raise click.ClickException(str(error)) from error
        if diff:
            before, after = source.text.splitlines(keepends=True), formatted.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(before, after, source.name, source.name))
        elif str(path) == "-" and not only_check:
            click.echo(formatted, nl=False)
        if formatted == source.text:
            continue
        changed += 1
        if only_check:
            click.echo(f"would format {source.name}")
        elif not diff and str(path) != "-":
            try:
                path.write_text(formatted, encoding="utf-8", newline="\n")
            except OSError as error:
                raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
            click.echo(f"formatted {source.name}", err=True)
    if changed and only_check:
        sys.exit(1)


@click.command("ddl")
@FILES
@click.option("--dialect", required=True, type=click.Choice(DIALECTS), help="Which engine's SQL to print.")
@click.option(
    "--location",
    default="data/warehouse",
    show_default=True,
    help="Path or URL of the warehouse; for snowflake the name of the stage.",
)
@click.option("--schema", help="redshift: the external schema.")
@click.option(
    "--table-format",
    default="parquet",
    show_default=True,
    type=click.Choice(["parquet", "orc"]),
    help="How the tables are stored.",
)
def ddl_command(
    files: Sequence[Path], dialect: Dialect, location: str, schema: str | None, table_format: FileFormat
) -> None:
    """Print the statements that create the warehouse's tables and views in a query engine."""
    if dialect == "duckdb" and table_format == "orc":
        raise click.UsageError("DuckDB cannot read ORC files; store the tables as Parquet")
    try:
        program = compile_program([read_source(path) for path in files])
    except FdlError as error:
        raise click.ClickException(str(error)) from error
    click.echo(ddl(program, dialect, location, schema=schema, table_format=table_format), nl=False)
