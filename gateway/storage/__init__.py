"""Storage on disk: the journal, which a restart reads to continue where the gateway ended.

It observes the engine and writes last values, state rows and the id counter to SQLite in groups.
The engine does not know it. Start reading at `journal`.
"""
