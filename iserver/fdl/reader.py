"""Rewrites lark's parse tree as syntax nodes, strings unescaped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TypeAlias

from lark import Token, Tree

from iserver.fdl.diagnostics import Diagnostic, FdlError
from iserver.fdl.syntax import (
    ArgumentNode,
    BlockNode,
    DirectiveNode,
    EnumNode,
    EnumValueNode,
    EventNode,
    FeatureNode,
    FieldNode,
    FileNode,
    ImportNode,
    Item,
    ObjectNode,
    Position,
    SessionNode,
    TopLevelNode,
    TypeNode,
    ValueNode,
)

ParseTree: TypeAlias = Tree[Token]


def read_document(tree: ParseTree, file: str) -> FileNode:
    """The syntax nodes of one file.

    Raises:
        FdlError: A string is not text: it has half of a surrogate pair.
    """
    return _Reader(file).document(tree)


class _Reader:
    def __init__(self, file: str) -> None:
        self.file = file

    def document(self, tree: ParseTree) -> FileNode:
        namespace = next((self.value(child.children[0]) for child in _trees(tree, "namespace")), None)
        definitions = [self.definition(child) for child in _trees(tree) if child.data != "namespace"]
        return FileNode(namespace, tuple(definitions))

    def definition(self, tree: ParseTree) -> TopLevelNode:
        match tree.data:
            case "type":
                return self.object_type(tree)
            case "enum":
                return self.enum(tree)
            case "feature":
                return self.feature(tree)
            case "session":
                return SessionNode(self.position(tree), self.directives(tree), self.items(tree), self.description(tree))
            case _:
                return self.event(tree)

    def object_type(self, tree: ParseTree) -> ObjectNode:
        fields = tuple(self.field(child) for child in _trees(tree, "member"))
        name = _name(tree)
        return ObjectNode(self.position(name), str(name), self.directives(tree), fields, self.description(tree))

    def enum(self, tree: ParseTree) -> EnumNode:
        values = tuple(
            EnumValueNode(self.position(_name(child)), str(_name(child)), self.directives(child))
            for child in _trees(tree, "enum_value")
        )
        name = _name(tree)
        return EnumNode(self.position(name), str(name), self.directives(tree), values, self.description(tree))

    def feature(self, tree: ParseTree) -> FeatureNode:
        name = _name(tree)
        return FeatureNode(
            self.position(name),
            str(name),
            any(token.type == "ABSTRACT" for token in _tokens(tree)),
            self.directives(tree),
            self.items(tree),
            self.description(tree),
        )

    def items(self, tree: ParseTree) -> tuple[Item, ...]:
        return tuple(self.item(child) for child in _trees(tree) if child.data not in ("description", "directive"))

    def item(self, tree: ParseTree) -> Item:
        match tree.data:
            case "import_":
                return ImportNode(self.position(_name(tree)), str(_name(tree)))
            case "args" | "output" | "plugin":
                return self.block(tree)
            case _:
                return self.event(tree)

    def block(self, tree: ParseTree) -> BlockNode:
        fields = tuple(self.field(child) for child in _trees(tree, "field"))
        return BlockNode(self.position(tree), tree.data, fields)  # type: ignore[arg-type]  # lark types rule names as str

    def event(self, tree: ParseTree) -> EventNode:
        items: list[ImportNode | BlockNode | FieldNode] = []
        for child in _trees(tree):
            match child.data:
                case "import_":
                    items.append(ImportNode(self.position(_name(child)), str(_name(child))))
                case "plugin":
                    items.append(self.block(child))
                case "field":
                    items.append(self.field(child))
        name = _name(tree)
        return EventNode(
            self.position(name),
            str(name),
            tree.data == "offline_event",
            self.directives(tree),
            tuple(items),
            self.description(tree),
        )

    def field(self, tree: ParseTree) -> FieldNode:
        name = _name(tree)
        type_ = next(child for child in _trees(tree) if child.data in ("named_type", "list_type"))
        default = next((self.value(child.children[0]) for child in _trees(tree, "default")), None)
        return FieldNode(
            self.position(name),
            str(name),
            self.type(type_),
            default,
            self.directives(tree),
            self.description(tree),
        )

    def type(self, tree: ParseTree) -> TypeNode:
        nullable = not any(token.type == "BANG" for token in _tokens(tree))
        if tree.data == "named_type":
            return TypeNode(self.position(tree), str(_name(tree)), None, nullable)
        return TypeNode(self.position(tree), "", self.type(next(_trees(tree))), nullable)

    def directives(self, tree: ParseTree) -> tuple[DirectiveNode, ...]:
        return tuple(
            DirectiveNode(self.position(child), str(_name(child)), self.arguments(child))
            for child in _trees(tree, "directive")
        )

    def arguments(self, tree: ParseTree) -> tuple[ArgumentNode, ...]:
        return tuple(
            ArgumentNode(self.position(child), str(_name(child)), self.value(child.children[1]))
            for child in _trees(tree, "argument")
        )

    def description(self, tree: ParseTree) -> str | None:
        return next((self.value(child.children[0]).value for child in _trees(tree, "description")), None)

    def value(self, node: Token | ParseTree) -> ValueNode:
        position = self.position(node)
        if isinstance(node, Tree):
            match node.data:
                case "list":
                    return ValueNode(position, "list", tuple(self.value(child) for child in node.children))
                case "object":
                    return ValueNode(position, "object", self.arguments(node))
                case _:
                    return ValueNode(position, "variable", str(_name(node)))
        match node.type:
            case "INT":
                return ValueNode(position, "int", int(node))
            case "FLOAT":
                return ValueNode(position, "float", float(node))
            case "STRING":
                return ValueNode(position, "string", self.text(node, json.loads(node, strict=False)))
            case "BLOCK_STRING":
                return ValueNode(position, "string", self.text(node, node[3:-3].strip()))
            case "TRUE" | "FALSE":
                return ValueNode(position, "boolean", node.type == "TRUE")
            case "NULL":
                return ValueNode(position, "null", None)
            case _:
                return ValueNode(position, "name", str(node))

    def text(self, token: Token, value: str) -> str:
        if any("\ud800" <= char <= "\udfff" for char in value):
            position = self.position(token)
            message = "a \\u escape is half of a surrogate pair"
            raise FdlError([Diagnostic("syntax", self.file, position.line, position.column, message)])
        return value

    def position(self, node: Token | ParseTree) -> Position:
        if isinstance(node, Tree):
            return Position(self.file, node.meta.line, node.meta.column - 1)
        return Position(self.file, node.line or 1, (node.column or 1) - 1)


def _trees(tree: ParseTree, rule: str | None = None) -> Iterator[ParseTree]:
    for child in tree.children:
        if isinstance(child, Tree) and (rule is None or child.data == rule):
            yield child


def _tokens(tree: ParseTree) -> Iterator[Token]:
    return (child for child in tree.children if isinstance(child, Token))


def _name(tree: ParseTree) -> Token:
    return next(token for token in _tokens(tree) if token.type == "NAME")
