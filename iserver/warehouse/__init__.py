"""The warehouse as plain data: its tables, their rows, its catalog and its DDL (§12).

`tables` decides which tables, views and columns a program has; `arrow` and `rows` turn finished sessions into Arrow
batches of them; `metadata`, `catalog` and `ddl` describe them to people and query engines.
Nothing here touches a file; `iserver.etl` does. Start with `tables`.
"""
