"""What csp-gateway modules do with channels in ``connect``: sending, states, staging and keys of baskets.

It is found by the calls in the source text of the modules, which is parsed and never executed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from gateway.commands.importers.draft import Draft
from gateway.commands.importers.source_tree import last_word

_UNKNOWN_KEYS: Final = "its keys are not in the source; write them in place of KEY and remove the mark of the comment"


def add_connections(draft: Draft, files: Iterable[Path]) -> None:
    """Add what modules do in ``connect`` with the channels of a draft, by the calls in some files."""
    for file in files:
        if file.suffix == ".py":
            _Connections(draft).visit(ast.parse(file.read_bytes(), str(file)))
    for name, options in draft.section("channels").items():
        if options.get("keys") == []:
            options["keys"] = ["KEY"]
            draft.disabled.add(name)
            draft.note(("channels", name), _UNKNOWN_KEYS)
        elif isinstance(options.get("keys"), list):
            draft.disabled.discard(name)
    if not any(options.get("send") for options in draft.section("channels").values()):
        draft.note(("channels",), "no call of add_send_channel was found: write send: true where clients may send")


class _Connections(ast.NodeVisitor):
    """Finds the calls by which modules make channels sendable, give them states and staging, and name keys."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._channels = draft.section("channels")

    def visit_Call(self, node: ast.Call) -> None:
        name = last_word(node.func)
        options = self._channels.get(_channel_of(node.args[0])) if node.args else None
        if options is not None and name == "add_send_channel":
            options["send"] = True
        elif options is not None and name == "set_stage":
            options["stage"] = True
        elif options is not None and name == "set_state":
            self._add_state(_channel_of(node.args[0]), state_of(node, 1, _channel_of(node.args[0])))
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if node.name == "dynamic_keys":
            for each in ast.walk(node):
                if isinstance(each, ast.Dict):
                    self._add_keys(each)
        self.generic_visit(node)

    def _add_keys(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            options = self._channels.get(_channel_of(key)) if key is not None else None
            if options is None:
                continue
            try:
                keys = [str(each) for each in ast.literal_eval(value)]
            except (ValueError, TypeError):
                continue
            if isinstance(options.get("keys"), list):
                options["keys"] = list(dict.fromkeys([*options["keys"], *keys]))

    def _add_state(self, channel: str, state: dict[str, Any]) -> None:
        given = self._channels[channel].get("state", [])
        states = given if isinstance(given, list) else [given]
        if state not in states:
            states = [*states, state]
        self._channels[channel]["state"] = states[0] if len(states) == 1 else states


def state_of(call: ast.Call, first: int, channel: str) -> dict[str, Any]:
    """A state from the arguments of ``State(keyby, indexer, alias)`` or ``set_state(channel, keyby)``."""
    named = {each.arg: each.value for each in call.keywords}
    written = call.args[first] if len(call.args) > first else named.get("keyby")
    keyby: Any = ("id",) if written is None else ast.literal_eval(written)
    state: dict[str, Any] = {"keyby": [keyby] if isinstance(keyby, str) else list(keyby)}
    alias = named.get("alias") or (call.args[2] if first == 0 and len(call.args) > 2 else None)
    if isinstance(alias, ast.Constant) and alias.value not in (None, channel):
        state["alias"] = alias.value
    return state


def _channel_of(node: ast.expr) -> str:
    """The channel that an argument names: ``MyChannels.quotes``, or its name as text."""
    return str(node.value) if isinstance(node, ast.Constant) else last_word(node)
