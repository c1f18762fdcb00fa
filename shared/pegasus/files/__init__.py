"""Files of bulk loads and backups: where they are, how they are laid out, and how paths below them are confined.

It never knows a table or a socket. Start reading in `providers`.
"""
