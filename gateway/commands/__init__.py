"""Commands of `gateway` other than the server: clients of a running gateway.

`client` calls the public API as any client would; `conditions` reads filters as people type them.
Commands know nothing of the engine or the handlers. Start reading at `client`.
"""
