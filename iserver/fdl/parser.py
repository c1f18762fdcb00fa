"""From FDL text to a syntax tree, reporting every syntax error of a file (protocol §13.1, §13.2, §13.7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib import resources

from lark import Lark, Token
from lark.exceptions import UnexpectedToken

from iserver.fdl.diagnostics import Diagnostic, FdlError
from iserver.fdl.model import SourceFile
from iserver.fdl.names import RESERVED_WORDS
from iserver.fdl.reader import ParseTree, read_document
from iserver.fdl.syntax import FileNode

MAX_DEPTH = 50

_DEFINITION_STARTS = frozenset({"TYPE", "ENUM", "FEATURE", "SESSION", "ABSTRACT", "EVENT", "OFFLINE"})
_ONLY_AT_TOP = frozenset({"TYPE", "ENUM", "FEATURE", "SESSION"})


class _Words:
    """Turns names that are words of the language into RESERVED tokens on their way to the parser."""

    always_accept = ("ILLEGAL", "BROKEN_STRING")

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        for token in stream:
            if token.type == "NAME" and token in RESERVED_WORDS:
                token.type = "RESERVED"
            yield token


@cache
def grammar() -> Lark:
    """The compiled grammar; a few milliseconds the first time."""
    text = resources.files(__package__).joinpath("fdl.lark").read_text(encoding="utf-8")
    return Lark(text, parser="lalr", lexer="basic", postlex=_Words(), propagate_positions=True)


def parse(file: SourceFile) -> FileNode:
    """Parse one file.

    Raises:
        FdlError: With every syntax error of the file.
    """
    return read_document(parse_tree(file), file.name)


def parse_tree(file: SourceFile) -> ParseTree:
    """Parse one file to lark's tree, which knows offsets in the text as well.

    Raises:
        FdlError: With every syntax error of the file.
    """
    tokens = list(grammar().lex(file.text))
    errors = _too_deep(file, tokens)
    if errors:
        raise FdlError(errors)
    start = 0
    while True:
        parser = grammar().parse_interactive("")
        position = start
        try:
            for position in range(start, len(tokens)):
                parser.feed_token(tokens[position])
            position = len(tokens)
            tree: ParseTree = parser.feed_eof(tokens[-1] if tokens else None)  # type: ignore[no-untyped-call]
        except UnexpectedToken as error:
            accepted = parser.accepts()  # type: ignore[no-untyped-call]
            errors.append(_syntax_error(file, error.token, accepted))
        else:
            if errors:
                raise FdlError(errors)
            return tree
        start = _next_definition(tokens, start, position)
        if start >= len(tokens):
            raise FdlError(errors)


def _too_deep(file: SourceFile, tokens: list[Token]) -> list[Diagnostic]:
    """The compiler walks trees by recursion, so their depth has a limit far beyond what a person writes."""
    depth = 0
    for token in tokens:
        depth += token.type in ("LBRACE", "LSQB")
        depth -= token.type in ("RBRACE", "RSQB")
        if depth > MAX_DEPTH:
            line, column = token.line or 1, (token.column or 1) - 1
            message = f"brackets are nested more than {MAX_DEPTH} deep"
            return [Diagnostic("syntax", file.name, line, column, message)]
    return []


def _next_definition(tokens: list[Token], start: int, failed: int) -> int:
    """Index of the first token after a failure where a definition can begin again."""
    depth = 0
    for token in tokens[start:failed]:
        depth += (token.type == "LBRACE") - (token.type == "RBRACE")
    for index in range(failed, len(tokens)):
        kind = tokens[index].type
        starts = kind in _DEFINITION_STARTS and (depth <= 0 or kind in _ONLY_AT_TOP)
        # A definition begins again after the failed token, unless that token only ended a broken one.
        if starts and (index > failed or start < failed):
            return index
        depth += (kind == "LBRACE") - (kind == "RBRACE")
    return len(tokens)


def _syntax_error(file: SourceFile, token: Token, accepted: Iterable[str]) -> Diagnostic:
    if token.type == "$END":
        line, column = _end_of(file.text)
    else:
        line, column = token.line or 1, (token.column or 1) - 1
    return Diagnostic("syntax", file.name, line, column, f"{_describe(token)}{_expectation(accepted)}")


def _end_of(text: str) -> tuple[int, int]:
    last_line = text.rsplit("\n", 1)[-1]
    return text.count("\n") + 1, len(last_line)


def _describe(token: Token) -> str:
    match token.type:
        case "$END":
            return "unexpected end of file"
        case "RESERVED":
            return f"'{token}' is a reserved word"
        case "ILLEGAL":
            return f"unexpected character '{token}'"
        case "BROKEN_STRING":
            return "unterminated string or unknown escape in it"
        case _:
            return f"unexpected '{token}'" if len(token) <= 40 else f"unexpected '{token[:40]}…'"


def _expectation(accepted: Iterable[str]) -> str:
    shown = sorted({_terminal_text(name) for name in accepted if name != "$END"})
    if not shown:
        return ""
    return f", expecting {', '.join(shown[:-1])} or {shown[-1]}" if len(shown) > 1 else f", expecting {shown[0]}"


def _terminal_text(name: str) -> str:
    match name:
        case "NAME":
            return "a name"
        case "STRING" | "BLOCK_STRING":
            return "a string"
        case "INT" | "FLOAT":
            return "a number"
        case _:
            return f"'{grammar().get_terminal(name).pattern.value}'"
