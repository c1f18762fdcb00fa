"""The HTTP edge: parse, call the server, encode. Decisions and storage are elsewhere."""
