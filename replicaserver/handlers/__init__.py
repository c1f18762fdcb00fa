"""The edges: HTTP routes and RPC codes, parsed, handed to the node, and encoded."""
