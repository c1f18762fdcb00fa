"""State: the last record of every key, and queries over those records.

Keeps rows by key in order (`store`, `keys`), reads queries (`query`), compiles them against the comparable columns of a
struct (`columns`, `selection`), and evaluates their filters over numpy columns (`filters`).
It knows no channels, requests or journal. Start reading at `store`.
"""
