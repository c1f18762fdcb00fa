"""The public asyncio client of a Pegasus cluster: `PegasusClient` and its tables.

Decides which server a row is asked of and what is tried again. It never knows a daemon of this project.
Start reading in `client`.
"""

from shared.pegasus.client.client import PegasusClient, StorageError, TableClient

__all__ = ["PegasusClient", "StorageError", "TableClient"]
