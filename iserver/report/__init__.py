"""`iserver report`: what an experiment's variants did to a metric, read from the warehouse.

Not part of the server: it reads the tables with DuckDB, and may run anywhere.
"""
