"""The write-ahead log: an append-only log with group commit, and its recovery.

Decides what is on the disk when an append is acknowledged, and which damage stops a start. It never knows what its
records mean. Start reading in `log`.
"""
