"""Handlers: the HTTP and WebSocket edge of the gateway, one file for each group of routes.

A handler parses a request, calls the engine, encodes the answer. What every request passes first (redirects, origin
check, API key) is in `middleware`; what all handlers share is in `context`, `requests` and `responses`.
Handlers know no storage, no bus and no modules. Start reading at `read` and `send`.
"""
