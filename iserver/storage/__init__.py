"""Where sessions are durable: on the disk of one server, or in Redis for several.

`journal` is what an engine stores to and what the warehouse reads finished sessions from; `session_log` holds the
changes of running sessions beneath it, `stored_definitions` the FDL that they refer to. `redis` does all of it for
sessions that are shared. Nothing here decides what happens to a session, and nothing here knows the engine.
Start with `Journal.store`.
"""
