"""Fetching what a channel file refers to: classes of modules, JSON Schema files, pydantic models."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from gateway.channel_file import Importer


class FileImporter(Importer):
    """Fetches from files beside the channel file, and from Python modules."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def json_schema(self, path: str) -> Mapping[str, Any]:
        """The JSON Schema in a file."""
        try:
            value = json.loads((self._folder / path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"cannot read the schema {path}: {error}") from None
        if not isinstance(value, dict):
            raise ValueError(f"the schema {path} is not an object")
        return value

    def model(self, path: str) -> type[BaseModel]:
        """The pydantic model ``module:Class`` or ``file.py:Class``."""
        try:
            found = load_class(path, self._folder)
        except (ImportError, AttributeError, OSError, SyntaxError) as error:
            raise ValueError(f"cannot import {path}: {error}") from None
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            raise ValueError(f"{path} is not a pydantic model")
        return found


def load_class(path: str, folder: Path) -> Any:
    """The object that ``module:Name`` or ``file.py:Name`` means.

    Raises:
        ImportError, AttributeError, OSError, SyntaxError, ValueError: It cannot be had.
    """
    where, colon, name = path.rpartition(":")
    if not colon:
        raise ValueError(f"{path!r} is no built-in module; expected 'module:Class' or 'file.py:Class'")
    if not where.endswith(".py"):
        return getattr(importlib.import_module(where), name)
    file = (folder / where).resolve()
    module_name = f"gateway_module_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ImportError(f"there is no file {file}")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = loaded
    spec.loader.exec_module(loaded)
    return getattr(loaded, name)
