"""Readers of an existing csp-gateway: its OpenAPI document, or its Python classes.

Every reader makes a `Draft`: the sections of a channel file, and notes on what could not be carried over. This room
knows neither running channels nor records; it reads foreign descriptions and writes text.
Start reading in `draft`. `openapi` reads documents (with `fetch` for a running server), `python_source` source text,
and `python_classes` imported classes: there `describe_classes` runs in the interpreter of the imported code.
"""
