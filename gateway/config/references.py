"""What a channel file refers to: classes of modules, JSON Schema files, pydantic models."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from gateway.config.loader import References

_OWN_FOLDER: Final = str(Path(__file__).parents[1])


class FileReferences(References):
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
        except (LoadError, ValueError) as error:
            raise ValueError(f"cannot import {path}: {error}") from None
        if not (isinstance(found, type) and issubclass(found, BaseModel)):
            raise ValueError(f"{path} is not a pydantic model")
        return found


class LoadError(Exception):
    """Python code could not be loaded; the text names the place and the reason."""


def load_class(path: str, folder: Path) -> Any:
    """The object that ``module:Name`` or ``file.py:Name`` means.

    Raises:
        LoadError: It cannot be loaded; the text contains what the code raised.
        ValueError: The path has another form.
    """
    where, colon, name = path.rpartition(":")
    if not colon:
        raise ValueError(f"{path!r} is no built-in module; expected 'module:Class' or 'file.py:Class'")
    try:
        return getattr(_load(where, folder), name)
    except Exception as error:
        raise LoadError(describe_failure(error)) from error


def describe_failure(error: Exception) -> str:
    """What code outside the gateway raised, with its file and line."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    foreign = [frame for frame in frames if not frame.filename.startswith(("<", _OWN_FOLDER))]
    text = f"{type(error).__name__}: {error}"
    return f"{foreign[-1].filename}:{foreign[-1].lineno}: {text}" if foreign else str(error)


def _load(where: str, folder: Path) -> Any:
    if not where.endswith(".py"):
        return importlib.import_module(where)
    file = (folder / where).resolve()
    module_name = f"gateway_module_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None or not file.is_file():
        raise ImportError(f"there is no file {file}")
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = loaded
    spec.loader.exec_module(loaded)
    return loaded
