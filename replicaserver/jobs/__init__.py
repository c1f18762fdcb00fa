"""Long operations on the files of replicas: manual compaction, bulk load, backup and restore.

Decides when they run, how many at a time, and what they leave behind when they fail or the process ends. They call
replicas and file providers; nothing below knows them. Start reading in `compactor`, the shortest.
"""
