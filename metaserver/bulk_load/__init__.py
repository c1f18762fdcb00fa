"""Loading the rows of a table from files that a provider holds.

`plan` decides which step the partitions of a table take next, from what their primaries report; it is pure.
`driver` asks the primaries, reads the description of the files and stores every step.
The files themselves are read by replica servers and never here. Start with `plan`.
"""
