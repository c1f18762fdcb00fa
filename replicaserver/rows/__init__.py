"""The data plane's operations on rows, as pure functions of a store, a request and the time.

Decides what a read returns, what a write changes, where a scan goes on, and whether a condition holds. It never knows
who may ask, how long anything takes, or where rows lie: a store is the protocol in `store`. Start reading in `store`,
then `reads` and `writes`.
"""
