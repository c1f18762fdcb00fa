"""One partition served: admission of requests, reads, and writes in batches.

Decides whether a request is served now, which writes share a batch and a sync, and when a write is answered. It never
knows the wire, the other replicas of the node, or the metaserver. Start reading in `partition`, then `write_batches`.
"""
