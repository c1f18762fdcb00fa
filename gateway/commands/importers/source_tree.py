"""Python source text as a tree: the classes of a file and of those that it imports from, parsed and never executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

KINDS: Final = {
    "GatewayChannels": "channels",
    "Channels": "channels",
    "GatewayStruct": "struct",
    "BaseModel": "model",
    "Struct": "model",
    "Enum": "enum",
    "IntEnum": "enum",
    "StrEnum": "enum",
    "IntFlag": "enum",
}


class SourceTree:
    """The classes of a file, and of the files beside it that it imports from."""

    def __init__(self, path: Path) -> None:
        self.files: list[Path] = []
        self.classes: dict[str, ast.ClassDef] = {}
        self.omitted: set[str] = set()
        self._main: list[str] = []
        self._add(path)

    def _add(self, path: Path) -> None:
        if path in self.files:
            return
        self.files.append(path)
        try:
            tree = ast.parse(path.read_bytes(), str(path))
        except SyntaxError as error:
            raise ValueError(f"{path}:{error.lineno}: {error.msg}") from None
        found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        self._main = self._main or list(found)
        self.classes = {**found, **self.classes}
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                self._add_import(path, node)
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
                call = node.value.func
                if isinstance(call, ast.Attribute) and call.attr == "omit_from_lookup":
                    self.omitted.add(last_word(call.value))

    def _add_import(self, path: Path, node: ast.ImportFrom) -> None:
        folder = path.parent
        for _ in range(node.level - 1):
            folder = folder.parent
        parts = (node.module or "").split(".") if node.module else []
        below = [parts[start:] for start in range(len(parts))] if node.level == 0 else [parts]
        for steps in below:  # an absolute import may begin with packages that the file lies in
            at = folder.joinpath(*steps)
            candidates = [at.with_suffix(".py")] if steps else []
            candidates += [at / f"{alias.name}.py" for alias in node.names]
            for file in candidates:
                if file.is_file():
                    self._add(file)

    def kind(self, cls: ast.ClassDef, seen: frozenset[str] = frozenset()) -> str | None:
        """What a class is, by the classes that it is derived from."""
        for base in cls.bases:
            name = last_word(base)
            if name in self.classes and name != cls.name and name not in seen:
                kind = self.kind(self.classes[name], seen | {cls.name})
            elif name == "Enum" and isinstance(base, ast.Attribute) and last_word(base.value) == "csp":
                kind = "csp enum"
            else:
                kind = "csp enum" if name == "CspEnum" else KINDS.get(name)
            if kind is not None:
                return kind
        return None

    def lineage(self, cls: ast.ClassDef) -> list[ast.ClassDef]:
        """A class behind those that it is derived from."""
        known = [self.classes[last_word(base)] for base in cls.bases if last_word(base) in self.classes]
        return [each for base in known if base is not cls for each in self.lineage(base)] + [cls]

    def channels_class(self, name: str | None) -> ast.ClassDef:
        found = [each for each in self._main if self.kind(self.classes[each]) == "channels"]
        if name is not None:
            if name not in self.classes:
                raise ValueError(f"{self.files[0]}: there is no class {name}; it has {', '.join(found) or 'none'}")
            return self.classes[name]
        bases = {last_word(base) for each in found for base in self.classes[each].bases}
        last = [each for each in found if each not in bases]
        if len(last) != 1:
            has = f"has {', '.join(last)}: say which, as {self.files[0]}:{last[0]}" if last else "has none"
            raise ValueError(f"{self.files[0]}: expected one subclass of GatewayChannels; it {has}")
        return self.classes[last[0]]


def last_word(node: ast.expr) -> str:
    """The last word of a dotted name; empty for anything else."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def items_of(node: ast.expr) -> list[ast.expr]:
    return node.elts if isinstance(node, ast.Tuple) else [node]


def evaluated(node: ast.expr) -> ast.expr:
    """An annotation that is written as text, parsed."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.parse(node.value, mode="eval").body
    return node


def annotated(node: ast.expr) -> tuple[ast.expr, list[ast.expr]]:
    """The type and the markers of ``Annotated[type, markers]``."""
    node = evaluated(node)
    if isinstance(node, ast.Subscript) and last_word(node.value) == "Annotated":
        inner, *markers = items_of(node.slice)
        return evaluated(inner), markers
    return node, []


def alternatives(node: ast.expr) -> Iterator[ast.expr]:
    node = evaluated(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from alternatives(node.left)
        yield from alternatives(node.right)
    elif isinstance(node, ast.Subscript) and last_word(node.value) == "Optional":
        yield from alternatives(node.slice)
        yield ast.Constant(None)
    else:
        yield node


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def is_validator(node: ast.stmt) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    decorators = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    return node.name == "__get_validator_dict__" or any(last_word(each).endswith("validator") for each in decorators)
