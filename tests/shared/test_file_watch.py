"""Files that change, are replaced or appear are noticed; their neighbours are not."""

from __future__ import annotations

import asyncio

import pytest

from shared.file_watch import file_changes


class Watch:
    """Counts what `file_changes` yields."""

    def __init__(self, *paths):
        self.changes = 0
        self._changed = asyncio.Condition()
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(self._run(paths))

    async def _run(self, paths):
        async for _ in file_changes(paths, self.stop):
            async with self._changed:
                self.changes += 1
                self._changed.notify_all()

    async def sees_after(self, change):
        """Make the change again and again until it is noticed: the watch may not have begun yet."""
        before, step = self.changes, 0
        async with asyncio.timeout(60), self._changed:
            while self.changes == before:
                change(step)
                step += 1
                try:
                    async with asyncio.timeout(1):
                        await self._changed.wait()
                except TimeoutError:
                    continue


@pytest.fixture
async def watch(tmp_path):
    watches = []

    def begin(*paths):
        watches.append(Watch(*paths))
        return watches[-1]

    yield begin
    for each in watches:
        each.stop.set()
        await each.task


def replace(file, text):
    new = file.with_name("new")
    new.write_text(text)
    new.replace(file)


async def test_every_atomic_replacement_is_noticed(watch, tmp_path):
    file = tmp_path / "channels.yml"
    file.write_text("a")
    seen = watch(file)
    for round_ in "bcd":
        await seen.sees_after(lambda step, round_=round_: replace(file, round_ * (step + 1)))


async def test_a_file_that_appears_is_noticed(watch, tmp_path):
    file = tmp_path / "channels.yml"
    await watch(file).sees_after(lambda step: file.write_text("a" * (step + 1)))


async def test_a_link_to_a_folder_that_is_switched_is_noticed(watch, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "channels.yml").write_text(name)
    current, file = tmp_path / "current", tmp_path / "channels.yml"
    current.symlink_to("one")
    file.symlink_to("current/channels.yml")

    def switch(step):
        new = tmp_path / "new"
        new.symlink_to(("two", "one")[step % 2])
        new.replace(current)

    await watch(file).sees_after(switch)


async def test_a_neighbour_is_not_noticed(watch, tmp_path):
    file, neighbour = tmp_path / "channels.yml", tmp_path / "other.yml"
    file.write_text("a")
    seen = watch(file)
    await seen.sees_after(lambda step: file.write_text("b" * (step + 2)))
    both = watch(file, neighbour)
    before = seen.changes
    await both.sees_after(lambda step: neighbour.write_text("c" * (step + 1)))
    assert seen.changes == before
