"""Benchmarks: one command each, ours and its peer side by side in one run. Run from the project's root."""
