"""The csp-gateway channel server: typed channels over REST, WebSocket and server-sent events."""
