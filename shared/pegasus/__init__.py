"""What metaserver, replicaserver and their clients speak: the wire, its structures, settings and metrics."""
