"""Tables, partitions and replica servers of a cluster, and every decision about them.

Decides what an operator may do with tables, how the members of a partition change, who shall hold it, and which
servers are alive. Plain values and pure functions: a decision is a `Change` of the `Metadata`.
Knows no storage, no clock, no event loop and no HTTP; times come in as arguments.
Start with `metadata`, then `tables` (operators) and `configurations` and `placement` (replica servers).
"""
