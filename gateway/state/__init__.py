"""State: the last record of every key, and queries over those records.

Keeps rows by key in order (`store`), reads queries (`query`), compiles them against the comparable columns of a struct
(`columns`, `selection`), and evaluates filters over large states in numpy columns (`columnar`).
It knows no channels, requests or journal. Start reading at `store`.
"""
