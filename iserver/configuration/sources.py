"""Where the configuration comes from: files, or the configuration server.

`Loader` turns what a source gives into a `Configuration`, and the same input into the same object.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

import aiohttp
import orjson
import structlog

from iserver.configuration.compiled import LOCAL, Configuration, configure, fdl_only
from iserver.configuration.control_plane import with_fdl
from iserver.document import Document, DocumentError, read_document
from iserver.document.model import Environment
from iserver.errors import InvalidConfigurationError, UnreachableError
from iserver.fdl import FdlError, Program, SourceFile, compile_program

log = structlog.get_logger("iserver.configuration")

FETCH_TIMEOUT_S = 10.0


class Source(Protocol):
    """Gives the text of a configuration document."""

    async def fetch(self) -> bytes:
        """The document as it is now.

        Raises:
            UnreachableError: It cannot be had.
        """

    async def accepted(self, document: bytes) -> None:
        """Called when a document is in force, and so worth caching."""

    async def close(self) -> None:
        """Close connections."""


class FileSource:
    """A document in a local file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replacing = asyncio.Lock()

    async def fetch(self) -> bytes:
        return await asyncio.to_thread(_read, self._path)

    async def accepted(self, document: bytes) -> None:
        """Nothing to do: the file is there."""

    async def close(self) -> None:
        """Nothing to do."""

    async def replace_fdl(self, files: Sequence[SourceFile], *, lenient: bool = False) -> None:
        """Put other FDL into the document, in one step, if the two fit.

        Raises:
            UnreachableError: The file cannot be read or written.
            InvalidConfigurationError: The FDL is wrong, or the rest of the document does not fit it.
        """
        async with self._replacing:
            document = await self.fetch()
            changed = await asyncio.to_thread(with_fdl, document, files, lenient=lenient)
            try:
                await asyncio.to_thread(_replace, self._path, changed)
            except OSError as error:
                raise UnreachableError(f"cannot write {self._path}: {error.strerror or error}") from error


class ServerSource:
    """A document from the configuration server; the last good one is cached on disk for when it is down.

    Args:
        url: Base URL of the configuration server.
        environment: UUID of the environment.
        token: What it wants to see as `Authorization`.
        cache: File of the last good document.
        watch: What every call to the server happens in, so that it is measured.
    """

    def __init__(
        self,
        url: str,
        environment: str,
        token: str,
        cache: Path,
        watch: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._url = f"{url.rstrip('/')}/api/v1/environments/{environment}/config"
        self._token = token
        self._cache = cache
        self._watch = watch
        self._etag: str | None = None
        self._document: bytes | None = None
        self._http: aiohttp.ClientSession | None = None

    async def fetch(self) -> bytes:
        try:
            with self._watch():
                return await self._ask()
        except UnreachableError as error:
            if self._document is not None or not self._cache.exists():
                raise
            cached = await asyncio.to_thread(_read, self._cache)
            if not _is_json(cached):
                raise UnreachableError(
                    f"{error}, and the configuration that was cached in {self._cache} is damaged"
                ) from error
            log.warning("using the cached configuration", reason=str(error), cache=str(self._cache))
            self._document = cached
            return cached

    async def accepted(self, document: bytes) -> None:
        try:
            await asyncio.to_thread(_replace, self._cache, document)
        except OSError as error:
            log.error(
                "cannot cache the configuration for later starts",
                file=str(self._cache),
                reason=error.strerror,
            )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()

    async def _ask(self) -> bytes:
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S))
        headers = {"Authorization": self._token}
        if self._etag is not None and self._document is not None:
            headers["If-None-Match"] = self._etag
        try:
            async with self._http.get(self._url, headers=headers) as response:
                if response.status == 304 and self._document is not None:
                    return self._document
                if response.status != 200:
                    raise UnreachableError(f"{self._url} answered {response.status} {response.reason}")
                self._document = await response.read()
                self._etag = response.headers.get("ETag")
                return self._document
        except (aiohttp.ClientError, TimeoutError) as error:
            raise UnreachableError(f"cannot reach {self._url}: {error or type(error).__name__}") from error


class Loader:
    """Loads the configuration from a source and local FDL files."""

    def __init__(
        self,
        source: Source | None,
        fdl_files: Sequence[Path],
        *,
        environment_id: str | None = None,
        lenient: bool = False,
        adjust: Callable[[Document], Document] = lambda document: document,
    ) -> None:
        """Prepare loading.

        Args:
            source: Where the document is; `None` when FDL files are all there is.
            fdl_files: FDL that replaces the document's.
            environment_id: Id of the environment when there is no document.
            lenient: See `configure`.
            adjust: Applies what the command line overrides.
        """
        self._source = source
        self._fdl_files = fdl_files
        self._environment = Environment(environment_id, LOCAL.name) if environment_id else LOCAL
        self._lenient = lenient
        self._adjust = adjust
        self._input: tuple[bytes | None, tuple[SourceFile, ...]] | None = None
        self._configuration: Configuration | None = None

    async def load(self) -> Configuration:
        """The configuration as it is now; the same object as before when nothing has changed.

        Raises:
            UnreachableError: A source cannot be read.
            InvalidConfigurationError: The configuration or its FDL is wrong; the message says where.
        """
        text = await self._source.fetch() if self._source is not None else None
        files = await asyncio.to_thread(_read_fdl, self._fdl_files)
        if self._configuration is not None and (text, files) == self._input:
            return self._configuration
        configuration = await asyncio.to_thread(self._build, text, files)
        for warning in configuration.warnings:
            log.warning("skipped in the configuration", reason=warning)
        if self._source is not None and text is not None:
            await self._source.accepted(text)
        self._input, self._configuration = (text, files), configuration
        return configuration

    async def close(self) -> None:
        """Close connections."""
        if self._source is not None:
            await self._source.close()

    def _build(self, text: bytes | None, files: tuple[SourceFile, ...]) -> Configuration:
        try:
            if text is None:
                program = compile_program(files)
                document = fdl_only(program, self._environment)
            else:
                document = read_document(text)
                program = self._program(files or document.fdl)
            return configure(self._adjust(document), program, lenient=self._lenient)
        except (DocumentError, FdlError) as error:
            raise InvalidConfigurationError(str(error)) from error

    def _program(self, files: tuple[SourceFile, ...]) -> Program:
        """The compiled files; a change of the configuration alone does not compile them again."""
        if self._configuration is not None and self._configuration.definition.program.sources == files:
            return self._configuration.definition.program
        return compile_program(files)


def _read_fdl(paths: Sequence[Path]) -> tuple[SourceFile, ...]:
    files = []
    for path in paths:
        try:
            files.append(SourceFile(str(path), _read(path).decode("utf-8-sig")))
        except UnicodeDecodeError as error:
            raise InvalidConfigurationError(f"{path}: not UTF-8: {error}") from error
    return tuple(files)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreachableError(f"cannot read {path}: {error.strerror or error}") from error


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a crash leaves either the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _is_json(content: bytes) -> bool:
    try:
        orjson.loads(content)
    except orjson.JSONDecodeError:
        return False
    return True
