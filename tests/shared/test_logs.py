"""Log lines for machines and for people."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from shared import logs


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_json_line_has_event_level_logger_time_and_fields(capsys):
    logs.configure("info", "json")
    structlog.get_logger("iserver.etl").info("batch written", rows=3)
    entry = json.loads(capsys.readouterr().err)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {"event": "batch written", "level": "info", "logger": "iserver.etl", "rows": 3}


def test_entries_below_the_level_are_not_written(capsys):
    logs.configure("warning", "json")
    structlog.get_logger("x").info("quiet")
    logging.getLogger("library").info("quiet")
    assert capsys.readouterr().err == ""


def test_what_libraries_log_has_the_same_shape(capsys):
    logs.configure("info", "json")
    logging.getLogger("library").warning("careful with %s", "that")
    entry = json.loads(capsys.readouterr().err)
    assert (entry["event"], entry["level"], entry["logger"]) == ("careful with that", "warning", "library")


def test_an_exception_is_one_field_of_one_line(capsys):
    logs.configure("info", "json")
    try:
        raise ValueError("why")
    except ValueError as error:
        structlog.get_logger("x").error("failed", exc_info=error)
    (line,) = capsys.readouterr().err.splitlines()
    assert "ValueError: why" in json.loads(line)["exception"]


def test_console_lines_are_for_people(capsys):
    logs.configure("info", "console")
    structlog.get_logger("x").info("listening", address="http://127.0.0.1:1")
    assert "address=http://127.0.0.1:1" in capsys.readouterr().err
