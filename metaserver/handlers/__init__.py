"""The edges of the metaserver: HTTP calls and RPCs. They parse, ask the service, encode."""
