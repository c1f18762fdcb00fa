"""Sessions in Redis, shared by several servers.

`scripts` is what Redis does in one step, `client` sends commands in order, `decode` reads what other servers stored.
`sessions` holds leases on sessions, `finished_queue` feeds the warehouse, `cache_flushes` reaches devices that are
connected to another server. Start with `sessions`.
"""
