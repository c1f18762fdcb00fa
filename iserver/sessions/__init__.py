"""The session of one visitor, from the first request to the row of the warehouse.

A session changes only by applying changes (`changes`), and its changes are what is stored; `state` holds and finds,
`session` is what everybody else calls. `registry` has all active sessions and knows which expire when; `finalize` turns
a session that is over into a `FinishedSession`. It knows no requests, no storage and no clock. Start with `session`.
"""
