"""The configuration in force, where it comes from, and what follows from a change of it.

`compiled` checks a document and its FDL against each other and compiles both; `encoding` prepares what clients are sent
of them; `invalidation` says which caches a change makes stale; `control_plane` answers the FDL compiler. These know no
files and no network. `sources` fetches configurations, `sync` puts them in force. Start with `compiled.configure`.
"""
