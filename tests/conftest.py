"""What all tests share."""

from __future__ import annotations

import functools
import logging
from collections.abc import Generator, Iterator

import pytest
import structlog
from hypothesis import settings

settings.register_profile("busy", deadline=None)  # how long one example takes says more about the machine
settings.load_profile("busy")


@pytest.fixture(autouse=True, scope="session")
def loggers_follow_the_configuration() -> Iterator[None]:
    """A daemon's loggers keep the configuration of their first line; in tests they would keep that of another test."""
    with pytest.MonkeyPatch.context() as patched:
        configure = structlog.configure

        @functools.wraps(configure)
        def without_cache(*arguments: object, **named: object) -> None:
            configure(*arguments, **{**named, "cache_logger_on_first_use": False})  # type: ignore[arg-type]

        patched.setattr(structlog, "configure", without_cache)
        yield


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that a test runs in this process configures logging; the next test must not have it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Captured output may hold any bytes that a test has sent; a report goes to another process as UTF-8."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report
