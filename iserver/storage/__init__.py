"""Where sessions are durable: on the disk of one server, or in Redis for several.

`journal` is what an engine stores to and what the warehouse reads finished sessions from. Beneath it are `session_log`,
the changes of running sessions, `journal_database`, the SQLite file of finished ones, and `replay`, which rebuilds
sessions at a start. `redis` does all of it for sessions that are shared. Nothing here decides what happens to a
session, and nothing here knows the engine. Start with `Journal.store`.
"""
