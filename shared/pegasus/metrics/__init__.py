"""Metric entities of a Pegasus process: their catalog, values, percentiles and the query of `/metrics`.

Decides which metrics exist and how they print. Start reading in `entities`.
"""
