"""Commands beside the server: check, format and translate FDL, and report on experiments.

Each command parses its options and calls `iserver.fdl`, `iserver.warehouse` or `iserver.report`; none needs a server.
"""
