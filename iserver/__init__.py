"""The Causal impression server: which features a visitor sees, and a durable record of what happened."""
