"""Catalogs that stay fresh: what an error that nobody foresaw does to one (protocol §9.1)."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from intake_server.catalog.model import Catalog, Scope
from intake_server.concurrency.thread_pool import ThreadPool
from intake_server.serving.files import UnreadableCatalog
from intake_server.serving.live import LiveCatalog


class Loader:
    """Gives a catalog, or raises."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.loads = 0

    def __call__(self, _before: Any) -> tuple[Catalog, Any]:
        self.loads += 1
        if self.error is not None:
            raise self.error
        return Catalog("c", {}, Scope("/"), generation=str(self.loads)), None


def live(loader: Loader, ttl_s: float) -> LiveCatalog:
    workers = ThreadPool("test", 2, 10, 2)
    return LiveCatalog(loader, workers, ttl_s=ttl_s, wait_s=10, timeout_s=10, name="a catalog")


async def test_an_unexpected_error_is_logged_once_and_not_met_again_by_every_request():
    loader = Loader()
    loader.error = RuntimeError("the file system broke")
    catalog = live(loader, ttl_s=600)
    with capture_logs() as logged:
        for _ in range(5):
            with pytest.raises(UnreadableCatalog, match="unexpected error: RuntimeError: the file system broke"):
                await catalog.current()
    assert loader.loads == 1
    assert [(line["log_level"], line["exc_info"] is loader.error) for line in logged] == [("error", True)]
    assert "the file system broke" in (catalog.problem or "")


async def test_an_unexpected_error_leaves_the_last_good_state_and_is_a_problem_of_the_catalog():
    loader = Loader()
    catalog = live(loader, ttl_s=0)
    good = await catalog.current()
    loader.error = KeyError("odd")
    with capture_logs() as logged:
        for _ in range(3):
            assert await catalog.current() is good
    assert [line for line in logged if line.get("exc_info") is loader.error] != []
    assert len([line for line in logged if line["event"] == "a catalog cannot be loaded"]) == 1
    assert "KeyError" in (catalog.problem or "")
    loader.error = None
    assert await catalog.current() is not good
    assert catalog.problem is None


async def test_a_catalog_that_failed_at_first_is_read_when_its_time_has_come():
    loader = Loader()
    loader.error = RuntimeError("odd")
    catalog = live(loader, ttl_s=0)
    with pytest.raises(UnreadableCatalog):
        await catalog.current()
    loader.error = None
    assert (await catalog.current()).catalog.name == "c"
