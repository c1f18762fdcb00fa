"""Clients that the published FDL compiler generates from the running example, built once in the user's cache.

The compiler and what it writes are fetched and made there; nothing of it is kept here.
"""

from __future__ import annotations

import shutil
import urllib.request
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from tests.conformance.environments import made, node_packages, npm_install, run_tool
from tests.conformance.fdl_oracle import compiler_jar
from tests.processes import DaemonProcess
from tests.requires import program

FDL = Path(str(resources.files("iserver.example"))) / "shop.fdl"
HERE = Path(__file__).parent
NPM = ("typescript@5.1", "cross-fetch@3", "react@18", "@types/react@18", "@types/node@20")
ESBUILD = "esbuild@0.25"
BROWSER_NPM = (*NPM, "react-dom@18", "@types/react-dom@18", ESBUILD)
OPENFEATURE_NPM = ("@openfeature/server-sdk@1", "@openfeature/core@1", "@openfeature/ofrep-provider@0.1.3")
OPENFEATURE_WEB_NPM = (
    *("@openfeature/web-sdk@1.10", "@openfeature/core@1", "@openfeature/ofrep-web-provider@0.4", ESBUILD),
)
PRODUCTION = '--define:process.env.NODE_ENV="production"'
TSC = (
    *("--target", "es2020", "--module", "commonjs", "--lib", "es2020,dom"),
    *("--skipLibCheck", "--esModuleInterop", "--noEmitOnError", "false"),
)


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Shop</title><div id="shop"></div>
<script type="module" src="page.js"></script></html>
"""


def typescript_client() -> list[str | Path]:
    """The command of the TypeScript driver; arguments are the base URL, a device and a scenario."""
    driver = HERE / "iserver_driver.ts"

    def build(folder: Path) -> None:
        npm_install(NPM, folder)
        _compile_fdl("--typescript", folder / "client.ts")
        shutil.copy(driver, folder / "driver.ts")
        run_tool([folder / "node_modules" / ".bin" / "tsc", *TSC, "driver.ts"], folder)

    return [program("node", "nodejs"), _built("typescript", [driver, FDL], build) / "driver.js"]


def browser_page() -> Path:
    """The folder of a page that uses the generated TypeScript client with React, and of an empty one beside it."""
    driver = HERE / "iserver_page.tsx"

    def build(folder: Path) -> None:
        npm_install(BROWSER_NPM, folder)
        _compile_fdl("--typescript", folder / "client.ts")
        _bundle(driver, folder)
        (folder / "empty.html").write_text("<!doctype html>")

    return _built("browser", [driver, FDL], build)


def openfeature_page() -> Path:
    """The folder of a page that evaluates flags with the OpenFeature web SDK."""
    driver = HERE / "openfeature_page.mjs"

    def build(folder: Path) -> None:
        npm_install(OPENFEATURE_WEB_NPM, folder)
        _bundle(driver, folder)

    return _built("openfeature-web", [driver], build)


def openfeature_node_client() -> list[str | Path]:
    """The command of the OpenFeature driver; the argument is the base URL."""
    driver = HERE / "openfeature_driver.mjs"

    def build(folder: Path) -> None:
        npm_install(OPENFEATURE_NPM, folder)
        shutil.copy(driver, folder / "driver.mjs")

    return [program("node", "nodejs"), _built("openfeature", [driver], build) / "driver.mjs"]


def java_client() -> list[str | Path]:
    """The command of the Java driver; arguments are the base URL and a device."""
    driver = HERE / "IserverDriver.java"

    def build(folder: Path) -> None:
        _compile_fdl("--java", folder / "generated")
        sources = sorted((folder / "generated").rglob("*.java"))
        javac = program("javac", "openjdk-17-jdk-headless")
        run_tool(
            [javac, "-nowarn", "-encoding", "UTF-8", "-cp", compiler_jar(), "-d", folder, *sources, driver], folder
        )

    folder = _built("java", [driver, FDL], build)
    java = program("java", "openjdk-17-jre-headless")
    return [
        java,
        "-Dfile.encoding=UTF-8",
        "-Dstdout.encoding=UTF-8",
        "-cp",
        f"{compiler_jar()}:{folder}",
        "IserverDriver",
    ]


def flushed(iserver: DaemonProcess, data: Path, query: str, table: str) -> list[tuple[Any, ...]]:
    """End all sessions of an iserver with `--enable-cmd`, then ask its tables."""
    body = b'{"action":"flushToWarehouse"}'
    with urllib.request.urlopen(f"{iserver.url}/cmd", data=body, timeout=60) as answer:
        assert answer.status == 200
    files = f"read_parquet('{data}/warehouse/tables/{table}/*/*/*.parquet', union_by_name=true)"
    return duckdb.connect().execute(f"SELECT {query} FROM {files}").fetchall()


def ruby_client() -> list[str | Path]:
    """The command of the Ruby driver; the argument is a device, and the base URL is in `CAUSAL_ISERVER`."""
    driver = HERE / "iserver_driver.rb"

    def build(folder: Path) -> None:
        _compile_fdl("--ruby", folder / "client.rb")
        shutil.copy(driver, folder / "driver.rb")

    return [program("ruby", "ruby"), "-E", "UTF-8", _built("ruby", [driver, FDL], build) / "driver.rb"]


def node_ws() -> Path:
    """A folder with the WebSocket client `ws` in `node_modules`."""
    return node_packages("node-ws", "ws@8")


def _built(name: str, sources: Sequence[Path], build: Callable[[Path], None]) -> Path:
    """A folder that was built from some files, now or by an earlier run."""
    content = b"".join(path.read_bytes() for path in sources)
    options = repr((BROWSER_NPM, OPENFEATURE_NPM, OPENFEATURE_WEB_NPM, TSC, PAGE)).encode()

    def build_there(folder: Path) -> None:
        folder.mkdir()
        build(folder)

    return made(f"iserver-{name}", content + options, build_there)


def _bundle(source: Path, folder: Path) -> None:
    """Make `index.html` run a script with all that it imports; esbuild is in the folder."""
    name = Path(shutil.copy(source, folder)).name
    options = ("--bundle", "--format=esm", "--outfile=page.js", "--define:process.env={}")
    run_tool([folder / "node_modules" / ".bin" / "esbuild", name, *options, PRODUCTION], folder)
    (folder / "index.html").write_text(PAGE)


def _compile_fdl(option: str, target: Path) -> None:
    fdl = shutil.copy(FDL, target.parent)  # the compiler leaves a folder of its own beside what it reads
    run_tool([program("java", "openjdk-17-jre-headless"), "-jar", compiler_jar(), option, target, fdl], target.parent)
