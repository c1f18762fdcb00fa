"""Backups of tables, once or by policy, and tables restored from them.

`plan` decides when the next backup of a policy is due and which backups are surplus; it is pure.
`driver` asks the primaries to write their parts, waits for all, and deletes what is surplus.
The files themselves are written by replica servers and never here. Start with `plan`.
"""
