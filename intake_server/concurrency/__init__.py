"""Limits on work and memory: threads, shared work, answers in flight, and a cache bounded by bytes.

The room decides who waits, who is told to come back, and what is given up. It knows nothing of catalogs, sources or
requests. Start reading at `thread_pool`.
"""
