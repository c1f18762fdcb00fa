"""One port for HTTP and RPC, told apart by the first four bytes of a connection.

Decides which protocol a connection speaks, how many there may be, and how long a silent one is kept. It never knows
what a call does. Start reading in `server`.
"""
