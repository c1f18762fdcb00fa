"""Structured logs: readable lines while a person watches, one JSON object a line otherwise."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "console", "json"]


def configure(level: LogLevel = "info", log_format: LogFormat = "auto") -> None:
    """Send every log entry, also those of libraries, to standard error.

    Args:
        level: The least important level that is still written.
        log_format: ``auto`` writes console lines to a terminal and JSON lines to anything else.
    """
    import structlog  # takes its time, which `--help` need not wait for

    as_json = log_format == "json" or (log_format == "auto" and not sys.stderr.isatty())
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if as_json:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    renderer: Processor = (
        structlog.processors.JSONRenderer(serializer=_dump_json)
        if as_json
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    malformed = logging.getLogger("aiohttp.server")
    malformed.filters[:] = [lambda record: _shorten_malformed(record) and record.levelno >= threshold]
    logging.getLogger("asyncio").setLevel(max(threshold, logging.WARNING))
    logging.getLogger("watchfiles").setLevel(max(threshold, logging.WARNING))  # a log in a watched folder feeds itself
    logging.getLogger("aiosqlite").setLevel(max(threshold, logging.WARNING))


def _shorten_malformed(record: logging.LogRecord) -> bool:
    """A request that is not HTTP is no error of the server: one line for those who look, without a traceback."""
    from aiohttp.http_exceptions import HttpProcessingError  # only its own server logs here: it is imported by then

    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        found = record.exc_info[1].message.partition("\n")[0]
        record.msg, record.args, record.exc_info = f"malformed HTTP request: {found}", (), None
        record.levelno, record.levelname = logging.DEBUG, "DEBUG"
    return True


def _dump_json(value: EventDict, **_ignored: object) -> str:
    import orjson

    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
