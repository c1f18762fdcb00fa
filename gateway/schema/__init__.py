"""Struct types: what a record may hold, how JSON becomes one, and how it prints.

A field type is a small tree (`field_types`); a struct is its fields (`structs`). Structs are compiled into validators
once (`compiler`) and turn request bodies into records (`validation`). The same declarations print as JSON Schema.
`importers` read structs from other descriptions. Nothing here knows channels, requests or the clock.
Start reading at `structs`, then `validation`.
"""
