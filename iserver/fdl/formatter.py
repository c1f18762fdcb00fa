"""`iserver fmt`: one layout for FDL text.

Every definition, member, field and enum value has a line of its own; comments and descriptions stay where they
are, and one blank line between two of them is kept. Formatting formatted text changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lark import Token, Tree

from iserver.fdl.model import SourceFile
from iserver.fdl.parser import grammar, parse_tree
from iserver.fdl.reader import ParseTree

INDENT = "    "

_DEFINITIONS = frozenset({"namespace", "type", "enum", "feature", "session", "event", "offline_event"})
_PARTS = frozenset({"member", "enum_value", "import_", "args", "output", "plugin", "field"})
_STATEMENTS = _DEFINITIONS | _PARTS
_NO_SPACE_BEFORE = frozenset(["COLON", "BANG", "RPAR", "RSQB", "LPAR", "COMMA"])
_NO_SPACE_AFTER = frozenset(["LPAR", "LSQB", "AT", "DOLLAR"])


def format_source(text: str, name: str = "<stdin>") -> str:
    """The same program in the one layout, ending with a newline unless it is empty.

    Args:
        name: What messages call the text.

    Raises:
        FdlError: The text is not FDL.
    """
    tree = parse_tree(SourceFile(name, text))
    layout = _Layout.of(tree)
    printer = _Printer(layout)
    for token in grammar().lex(text, dont_ignore=True):
        printer.take(token)
    return printer.text()


@dataclass(slots=True)
class _Layout:
    """What the tree says about tokens, by their offset in the text."""

    statements: set[int] = field(default_factory=set)
    definitions: set[int] = field(default_factory=set)
    after_descriptions: set[int] = field(default_factory=set)
    elements: set[int] = field(default_factory=set)
    object_braces: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, tree: ParseTree) -> _Layout:
        layout = cls()
        layout._visit(tree, is_top=True)
        return layout

    def _visit(self, tree: ParseTree, *, is_top: bool = False) -> None:
        for child in tree.children:
            if not isinstance(child, Tree):
                continue
            start = child.meta.start_pos
            if child.data in _STATEMENTS:
                self.statements.add(start)
                if is_top and child.data in _DEFINITIONS:
                    self.definitions.add(start)
            if child.data == "description":
                self.after_descriptions.add(child.meta.end_pos)
            if child.data == "object":
                self.object_braces |= {start, child.meta.end_pos - 1}
            self._visit(child)
        if tree.data in ("list", "object", "directive"):
            self.elements.update(_starts(tree.children[1:] if tree.data != "directive" else tree.children[2:]))


def _starts(nodes: Iterable[Token | ParseTree]) -> Iterable[int]:
    for node in nodes:
        start = node.meta.start_pos if isinstance(node, Tree) else node.start_pos
        if start is not None:
            yield start


class _Printer:
    """Writes tokens one after the other."""

    def __init__(self, layout: _Layout) -> None:
        self._layout = layout
        self._lines: list[str] = []
        self._line = ""
        self._depth = 0
        self._previous: Token | None = None
        self._newlines = 0
        self._must_break = False

    def text(self) -> str:
        self._end_line()
        return "\n".join(self._lines) + "\n" if self._lines else ""

    def take(self, token: Token) -> None:
        if token.type == "SPACE":
            self._newlines += token.count("\n")
            return
        if token.type == "COMMENT":
            self._comment(token)
        else:
            self._token(token)
        self._newlines = 0

    def _comment(self, token: Token) -> None:
        if self._line and self._newlines == 0:
            self._line += f"  {token.rstrip()}"
        else:
            self._end_line()
            self._blank_line_if_kept()
            self._line = self._indent() + token.rstrip()
        self._end_line()
        self._must_break = True

    def _token(self, token: Token) -> None:
        closes_block = token.type == "RBRACE" and token.start_pos not in self._layout.object_braces
        if closes_block:
            self._depth -= 1
        if self._starts_line(token, closes_block):
            self._end_line()
            self._blank_lines(token)
            self._line = self._indent(is_continued=not (closes_block or self._starts_statement(token))) + str(token)
        else:
            self._line += self._gap(token) + str(token)
        self._must_break = False
        if token.type == "LBRACE" and token.start_pos not in self._layout.object_braces:
            self._depth += 1
        self._previous = token

    def _starts_line(self, token: Token, closes_block: bool) -> bool:
        previous = self._previous
        if previous is None or self._must_break:
            return True
        if closes_block:
            return previous.type != "LBRACE" or previous.start_pos in self._layout.object_braces
        return self._starts_statement(token)

    def _starts_statement(self, token: Token) -> bool:
        """Whether the token begins a statement, or what follows a statement's description."""
        if token.start_pos in self._layout.statements:
            return True
        return self._previous is not None and self._previous.end_pos in self._layout.after_descriptions

    def _blank_lines(self, token: Token) -> None:
        """One blank line before a definition, and elsewhere where there was one between two statements."""
        previous = self._previous
        if token.type == "RBRACE" or previous is None:
            return
        if previous.end_pos in self._layout.after_descriptions:
            return
        if token.start_pos in self._layout.definitions and not self._after_comment():
            self._blank_line()
        elif token.start_pos in self._layout.statements:
            self._blank_line_if_kept()

    def _blank_line_if_kept(self) -> None:
        opens = self._previous is not None and self._previous.type == "LBRACE" and not self._after_comment()
        if self._newlines > 1 and not opens:
            self._blank_line()

    def _blank_line(self) -> None:
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def _after_comment(self) -> bool:
        return bool(self._lines) and self._lines[-1].lstrip().startswith("#")

    def _gap(self, token: Token) -> str:
        previous = self._previous
        if previous is None or not self._line.strip():
            return ""
        if token.start_pos in self._layout.elements:
            return ", "
        if token.type in _NO_SPACE_BEFORE or previous.type in _NO_SPACE_AFTER:
            return ""
        braces = self._layout.object_braces
        if (previous.type == "LBRACE" and previous.start_pos in braces) or (
            token.type == "RBRACE" and token.start_pos in braces
        ):
            return ""
        if previous.type == "LBRACE" and token.type == "RBRACE":
            return ""
        return " "

    def _indent(self, *, is_continued: bool = False) -> str:
        return INDENT * (max(self._depth, 0) + is_continued)

    def _end_line(self) -> None:
        if self._line:
            self._lines.append(self._line)
        self._line = ""
