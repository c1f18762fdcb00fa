"""What `benchmarks.gateway` runs as processes of their own; csp-gateway needs an environment of its own."""
