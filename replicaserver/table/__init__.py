"""What a table asks of its replicas: its settings, limits, compactions and bulk loads, as data.

Decides what environment variables mean, when a request is over a limit, when a compaction is due and which rows it
rewrites, and how a bulk load goes on. Pure: the time is an argument, and whoever carries out the effects reports
back. Start reading in `settings`.
"""
