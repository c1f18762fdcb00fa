"""The subcommands of `metaserver` that an operator runs against a cluster.

They speak the admin RPCs through the public client, so they work with an Apache Pegasus cluster as well.
They know nothing of a running metaserver's objects. Start with `command`, which all of them share, then `tables`.
"""
