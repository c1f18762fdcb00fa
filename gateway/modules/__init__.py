"""The built-in modules (specification §8.4, §10.2)."""
