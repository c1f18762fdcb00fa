"""Modules: Python code inside a gateway that reads and ticks channels (§8.4).

The interface that modules see (`api`), the loader that finds, connects, starts and stops them (`loader`), and the
modules that come with the gateway (`builtin`). A failing module is logged and counted; it never stops the engine.
Modules know no handlers and no storage. Start reading at `api`.
"""
