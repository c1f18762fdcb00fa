"""The channel file: what it declares, and where a mistake in it stands.

Reads YAML or TOML into checked declarations (structs, channels, states, keys, modules), decides which groups of
routes they have and what of them one caller may see, and which changes need a restart. Every error names file and
line. It knows no running engine, no requests and no sockets. Start reading at `loader`; the options are in `models`.
"""
