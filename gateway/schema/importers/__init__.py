"""Structs from other descriptions: JSON Schema documents and pydantic models.

Each importer returns plain field declarations and raises `ValueError` where the type language has no equivalent.
It opens no files: `gateway.config.references` reads what a channel file refers to.
"""
