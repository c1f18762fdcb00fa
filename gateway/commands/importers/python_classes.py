"""A channel file from a class that is imported by the interpreter of the code that it belongs to."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from gateway.commands.importers.connections import add_connections
from gateway.commands.importers.draft import Draft

_SCRIPT: Final = Path(__file__).with_name("describe_classes.py")
_TIMEOUT_S: Final = 300
_MARK: Final = "entrepot-channel-file:"


def draft_of_classes(module: str, name: str, python: str) -> Draft:
    """A channel file with the channels of a class.

    Args:
        module: The module to import; the current folder is on the path.
        name: The subclass of GatewayChannels in it.
        python: The interpreter that imports it.

    Raises:
        ValueError: It cannot be imported; the text says what the interpreter lacks.
    """
    try:
        done = subprocess.run(
            [python, "-c", _SCRIPT.read_text(encoding="utf-8"), module, name],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ValueError(f"cannot run {python}: {error}") from error
    described = next((line for line in done.stdout.splitlines() if line.startswith(_MARK)), None)
    if described is None:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise ValueError(
            f"{python} cannot import {module}:{name}: {last}\n"
            "It needs csp-gateway and all that the module imports: name the interpreter that has them with --python, "
            "or give the source as FILE.py, which is read without executing it."
        )
    found = json.loads(described.removeprefix(_MARK))
    draft = Draft(f"the Python class {module}:{name}", found["value"])
    for place, text in found["notes"]:
        draft.note(tuple(place), text)
    draft.disabled |= {channel for channel, options in draft.section("channels").items() if options.get("keys") == []}
    add_connections(draft, [Path(file) for file in found["files"]])
    return draft
