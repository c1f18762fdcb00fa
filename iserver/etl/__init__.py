"""Finished sessions on their way into the tables of the warehouse, each exactly once.

`etl` runs batches; `writer` writes one batch into the files of all tables, `staging` builds these with bounded memory,
`filesystems` puts them in place, `delta` enters them in a Delta Lake log. `writer_process` runs the writer in a process
of its own. Which tables and columns there are is decided in `iserver.warehouse`. Start with `Etl.run`.
"""
