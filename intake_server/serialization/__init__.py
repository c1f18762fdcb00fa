"""How control messages, frames, blocks and Python data become bytes (§4), and which form a client takes.

The room decides every byte of the format `msgpack` and of its compressions. It knows no sources, files or sockets.
Start reading at `values`, which chooses the encoder of a container.
"""
