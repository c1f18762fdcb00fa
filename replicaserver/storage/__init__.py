"""Where the rows of replicas lie: one RocksDB a replica, one log of writes a node, and their folders.

Decides when a write is durable, what is applied again after a crash, and what a folder is called while its replica
lives and after. It never knows who asked for a write, or what a table's settings mean. Start reading in `rocks`, then
`node_log`.
"""
