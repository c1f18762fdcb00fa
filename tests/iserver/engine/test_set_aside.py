"""A session that cannot be finished: set aside, counted, kept, and no obstacle to the others."""

from __future__ import annotations

import pytest

from iserver.sessions.finalize import finish
from iserver.settings import ServerSettings
from tests.iserver.conftest import EXAMPLE, running


@pytest.fixture
def broken(monkeypatch):
    """Lets the sessions of the device `broken` fail when they are finished, as an unforeseen error would."""

    def finish_but_one(session, end_ms):
        if session.persistent_id == "broken":
            raise AttributeError("unforeseen")
        return finish(session, end_ms)

    monkeypatch.setattr("iserver.engine.engine.finish", finish_but_one)


async def metric(iserver, name):
    text = await (await iserver.client.get("/metrics")).text()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def test_one_session_that_cannot_be_finished_does_not_hold_up_the_others(iserver, clock, broken):
    for device in ("dev-1", "broken", "dev-2"):
        await iserver.features({}, args={"deviceId": device})
    clock.advance(minutes=31)
    await iserver.engine.sweep_all()
    assert sorted(session.persistent_key for session in iserver.finished()) == ["dev-1", "dev-2"]
    assert await metric(iserver, "iserver_sessions_set_aside") == 1


async def test_what_was_set_aside_is_finished_by_a_server_that_can(tmp_path, clock, ids, monkeypatch, broken):
    settings = ServerSettings(data_dir=tmp_path / "data", config_file=EXAMPLE / "shop.json")
    async with running(settings, clock, ids) as iserver:
        await iserver.features({}, args={"deviceId": "broken"})
    monkeypatch.undo()
    async with running(settings, clock, ids) as iserver:
        await iserver.engine.sweep_all()
        assert [session.persistent_key for session in iserver.finished()] == ["broken"]


async def test_an_error_of_the_journal_loses_no_session(iserver, clock, monkeypatch):
    """Whatever the error is: the sessions are stored by the next sweep."""
    await iserver.features({})
    clock.advance(minutes=31)
    with monkeypatch.context() as patched:

        async def fail(*_):
            raise AttributeError("unforeseen")

        patched.setattr(iserver.components.store, "finish", fail)
        with pytest.raises(AttributeError):
            await iserver.engine.sweep_all()
    await iserver.engine.sweep_all()
    assert [session.persistent_key for session in iserver.finished()] == ["dev-1"]
