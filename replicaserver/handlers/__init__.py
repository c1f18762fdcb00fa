"""The edge: HTTP calls and RPC codes, decoded, handed to a partition, the node or a job, and encoded.

Decides which bytes of a request mean what, and which error code an answer has. It never touches a store or a file.
Start reading in `rrdb`, the data plane.
"""
