"""The node: which replicas it holds on which disks, and which of them the metaserver lets it serve.

Decides where a replica is created, opened and set aside, which configuration it follows, and what runs at intervals.
It never knows the wire, and it starts no long operation. Start reading in `replicas`, then `meta_link`.
"""
