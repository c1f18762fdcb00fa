"""Limits on work and memory: threads, shared work, answers in flight, and a cache bounded by bytes.

The room decides who waits, who must retry later, and what is abandoned. It knows nothing of catalogs, sources or
requests. Start reading at `thread_pool`.
"""
