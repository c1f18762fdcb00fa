"""Several gateways as one: the same ticks in the same order on all of them.

What entries and snapshots mean (`replication`), how Redis carries them (`redis_bus`), and which gateway runs the
modules (`lease`). The engine is used through its public methods and does not know that it is replicated.
Start reading at `replication`.
"""
