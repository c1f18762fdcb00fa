"""The warehouse as plain data: its tables, their rows, its catalog and its DDL (specification §12).

Nothing here touches a file; `iserver.storage.warehouse` does.
"""
