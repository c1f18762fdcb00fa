"""Bytes and messages of Pegasus: the Thrift codec, framing, keys, error codes and the structures of every call.

Decides what a message looks like and how large one may be. It never knows a socket or a table. Start
reading in `framing`.
"""
