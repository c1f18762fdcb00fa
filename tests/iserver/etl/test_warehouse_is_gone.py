"""A warehouse that cannot be opened any more: sessions wait in the journal, and everything is closed in order."""

from __future__ import annotations

from iserver.settings import ServerSettings
from iserver.storage.journal import Journal
from shared.errors import StartupError
from tests.iserver.conftest import EXAMPLE, running


def gone(_location, _table_format):
    raise StartupError("cannot write the warehouse")


async def test_the_journal_is_closed_and_keeps_the_sessions(tmp_path, clock, ids):
    settings = ServerSettings(data_dir=tmp_path / "data", config_file=EXAMPLE / "shop.json")
    async with running(settings, clock, ids) as iserver:
        await iserver.features({})
        components = iserver.components
        components.etl.open_warehouse = lambda: gone("", "parquet")
    journal = await Journal.open(tmp_path / "data" / "journal.sqlite")  # nobody else has it open
    assert journal.waiting == 1
    await journal.close()


async def test_an_operator_who_flushes_is_told_why(open_iserver):
    iserver = await open_iserver()
    await iserver.features({})
    iserver.components.etl.open_warehouse = lambda: gone("", "parquet")
    answer = await iserver.post("cmd", {"action": "flushToWarehouse"})
    assert answer.status == 500
    assert await answer.text() == "the sessions are safe but not in the warehouse yet: cannot write the warehouse"
