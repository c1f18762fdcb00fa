"""`iserver report`: what an experiment's variants did to a metric, read from the warehouse.

`warehouse_tables` counts with DuckDB, `results` and `statistics` compute, `text`, `page` and `drawing` show.
It is not part of the server: it knows only the tables of the warehouse, and may run anywhere. Start with `results`.
"""
