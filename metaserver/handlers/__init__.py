"""HTTP calls and RPCs of clients, operators and replica servers, and the metrics they can ask for.

Each function parses a request, asks the service or a driver, and encodes the answer; it decides nothing.
Knows no storage. Start with `http` for the calls under `/meta` and `rpc` for those of clients and operators;
`replica_servers` answers the cluster's own servers, `unsupported` says what this cluster does not have.
"""
