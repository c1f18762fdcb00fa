"""The Apache Pegasus MetaServer: tables, partition configurations and their HTTP API."""
