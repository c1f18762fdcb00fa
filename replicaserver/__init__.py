"""The Apache Pegasus ReplicaServer: partitions of tables in RocksDB, and their HTTP API."""
