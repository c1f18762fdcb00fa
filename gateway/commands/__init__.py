"""Commands of `gateway` other than the server: clients of a running gateway, and makers of channel files.

`client` calls the public API as any client would; `conditions` reads filters as people type them.
`import_channels` makes channel files from what a csp-gateway already has, with the readers in `importers`.
Commands know nothing of the engine or the handlers. Start reading at `client`.
"""
