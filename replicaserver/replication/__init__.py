"""The replication protocol (PacificA) of one replica, without network, disk and clock.

Decides who is primary under which ballot, which decree a write gets, and when a decree is committed. It never knows
rows, files or sockets: a write is a number to it, and what is to be done comes out as effects. Start reading in
`replica`, which serves partitions of one member; `member` is the core for several, which only the simulation runs yet.
"""
