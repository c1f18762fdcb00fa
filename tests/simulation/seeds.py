"""Many runs: which seeds fail, how fast it goes, and what a failing one did."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

import click

from tests.simulation.run import Result, simulate


def outcome(seed: int) -> tuple[int, Result | None, str]:
    """A seed, and its result or what went wrong."""
    try:
        return seed, simulate(seed), ""
    except AssertionError as error:
        return seed, None, str(error)


def outcomes(seeds: Sequence[int], jobs: int) -> Iterator[tuple[int, Result | None, str]]:
    """The outcomes of seeds, as they come."""
    if jobs == 1:
        yield from map(outcome, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(outcome, seed) for seed in seeds]):
            yield future.result()


@click.command()
@click.option("--seeds", default=100, show_default=True, help="How many seeds are run.")
@click.option("--first", default=1, show_default=True, help="The first of them.")
@click.option("--jobs", default=1, show_default=True, help="How many processes run them.")
@click.option("--seed", type=int, help="Run this seed alone.")
@click.option("--trace", is_flag=True, help="Print every message of the seed that is run alone.")
def main(seeds: int, first: int, jobs: int, seed: int | None, trace: bool) -> None:
    """Run the replication core on a simulated cluster that goes wrong in every way, and judge each run."""
    if seed is not None:
        result = simulate(seed, is_traced=trace)
        click.echo("\n".join(result.trace))
        click.echo(f"seed {seed}: {result.acknowledged} acknowledged, {result.committed} decrees, {result.fingerprint}")
        return
    began = time.monotonic()
    simulated_s, failed = 0.0, []
    for number, (at, result, reason) in enumerate(outcomes(range(first, first + seeds), jobs), 1):
        if result is None:
            failed.append(at)
            click.echo(f"seed {at}: {reason}")
        else:
            simulated_s += result.simulated_s
        if number % 100 == 0 or number == seeds:
            took = time.monotonic() - began
            speed = f"{number / took:.1f} seeds/s, {simulated_s / took:.0f} times real time"
            click.echo(f"{number} of {seeds} seeds, {len(failed)} failed, {speed}")
    if failed:
        raise click.ClickException(f"failed: {sorted(failed)}; see one with --seed {min(failed)} --trace")


if __name__ == "__main__":
    main()
