"""The catalogs being served: read from files, kept fresh, and searched for a caller's entries.

The room decides which state of a catalog a request sees, what a name means, and whether the caller may use what it
found. It never opens a data source and knows no HTTP. Start reading at `catalogs`; `live` keeps one catalog fresh,
`files` reads it.
"""
