"""Handlers: the HTTP and WebSocket edges of the gateway."""
