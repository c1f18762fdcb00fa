"""The command `iserver report`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click


@click.command("report")
@click.option("--warehouse", "location", required=True, help="Path or URL of the warehouse.")
@click.option("--experiment", "experiment_id", help="Id or name of one experiment; default: all of them.")
@click.option(
    "--metric",
    "metric_texts",
    metavar="METRIC",
    multiple=True,
    help="event:NAME, the share of visitors with the event, or event:NAME.FIELD, the mean of its sum per visitor; "
    "repeatable.",
)
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Draw the report into this file.")
@click.option(
    "--confidence",
    type=click.FloatRange(50, 99.99),
    default=95.0,
    show_default=True,
    help="In per cent, of all intervals of an experiment together, at every look.",
)
@click.option(
    "--tightest-at",
    type=click.IntRange(min=200),
    default=10_000,
    show_default=True,
    help="Visitors of a comparison at which its interval is tightest; choose it before looking.",
)
def report_command(
    location: str,
    experiment_id: str | None,
    metric_texts: Sequence[str],
    page: Path | None,
    confidence: float,
    tightest_at: int,
) -> None:
    """Report what the experiments did, from the tables of the warehouse.

    Intervals and the check of the sample ratio stay right however often the report is read.
    """
    from iserver.report.model import Metric, ReportError
    from iserver.report.page import report_page
    from iserver.report.results import examine
    from iserver.report.text import report_text
    from iserver.report.warehouse_tables import ReportWarehouse

    try:
        metrics: Sequence[Metric | None] = [Metric.parse(text) for text in dict.fromkeys(metric_texts)] or [None]
        warehouse = ReportWarehouse(location)
        experiments = warehouse.experiments()
        if experiment_id is not None:
            experiments = [item for item in experiments if experiment_id in (item.id, item.name)]
            if not experiments:
                raise ReportError(f"the warehouse knows no experiment {experiment_id!r}")
        alpha = 1 - confidence / 100
        results = [
            [examine(warehouse, item, metric, alpha=alpha, tightest_at=tightest_at) for metric in metrics]
            for item in experiments
        ]
    except ReportError as error:
        raise click.ClickException(str(error)) from error
    click.echo("\n".join(report_text(*of_one) for of_one in results) or "The configuration has no experiments.")
    if page is not None:
        try:
            page.write_text(report_page(results, location, datetime.now(UTC)), encoding="utf-8")
        except OSError as error:
            raise click.ClickException(f"cannot write {page}: {error.strerror}") from error
        click.echo(f"drawn into {page}", err=True)
