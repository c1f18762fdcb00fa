"""Programs that some tests need beside Python, and that `scripts/test` installs when it can."""

from __future__ import annotations

import os
import shutil

import pytest


def program(name: str, debian_package: str) -> str:
    """The path of a program.

    Without it the test is skipped on a developer's machine, and fails where everything must be there (``CI``).
    """
    path = shutil.which(name)
    if path is not None:
        return path
    reason = f"needs {name}, from the Debian package {debian_package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
