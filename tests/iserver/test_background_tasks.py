"""Background tasks of an iserver go on after an error that nobody foresaw, and readiness says so meanwhile."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import orjson
import pyarrow.dataset

from iserver.daemon import start_background_tasks
from iserver.settings import ServerSettings
from tests.iserver.conftest import EXAMPLE, Clock, Ids, Iserver, running

CALL = {"args": {"deviceId": "dev-1"}, "impressionId": "imp-1", "requests": {"RatingBox": {"product": "lamp"}}}


def settings(folder: Path) -> ServerSettings:
    return ServerSettings(data_dir=folder, config_file=EXAMPLE / "shop.json", enable_cmd=True, etl_interval_s=0.05)


async def expire_a_session(iserver: Iserver, clock: Clock) -> None:
    assert (await iserver.post("features", CALL)).status == 200
    clock.advance(minutes=31)


async def readiness(iserver: Iserver) -> tuple[int, list[str]]:
    answer = await iserver.client.get("/readyz")
    return answer.status, orjson.loads(await answer.read()).get("reasons", [])


async def until(iserver: Iserver, status: int) -> list[str]:
    async with asyncio.timeout(60):
        while True:
            found, reasons = await readiness(iserver)
            if found == status:
                return reasons
            await asyncio.sleep(0.05)


async def test_an_etl_that_fails_unforeseen_is_tried_again_and_readiness_names_it(
    tmp_path: Path, clock: Clock, ids: Ids
):
    async with running(settings(tmp_path), clock, ids) as iserver:
        run_etl, failures = iserver.components.etl.run, 4

        async def run(configuration):
            nonlocal failures
            if failures:
                failures -= 1
                raise sqlite3.OperationalError("disk I/O error")
            return await run_etl(configuration)

        iserver.components.etl.run = run
        start_background_tasks(iserver.components, settings(tmp_path))
        await expire_a_session(iserver, clock)
        assert await until(iserver, 503) == ["the background task 'ETL' keeps failing"]
        text = await (await iserver.client.get("/metrics")).text()
        assert 'iserver_background_task_failures_total{task="ETL"}' in text
        assert await until(iserver, 200) == []


async def test_stopping_writes_what_is_finished_although_the_etl_had_failed(tmp_path: Path, clock: Clock, ids: Ids):
    async with running(settings(tmp_path), clock, ids) as iserver:
        run_etl, failed = iserver.components.etl.run, asyncio.Event()

        async def run(configuration):
            if not failed.is_set():
                failed.set()
                raise sqlite3.OperationalError("disk I/O error")
            return await run_etl(configuration)

        iserver.components.etl.run = run
        start_background_tasks(iserver.components, settings(tmp_path))
        assert (await iserver.post("features", CALL)).status == 200
        await failed.wait()
    rows = pyarrow.dataset.dataset(tmp_path / "warehouse" / "tables" / "rating_box", format="parquet").to_table()
    assert rows.num_rows == 1
