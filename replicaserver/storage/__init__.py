"""Where the rows of replicas lie: RocksDB, folders, and file providers."""
