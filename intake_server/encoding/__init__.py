"""How control messages, frames, blocks and Python data become bytes (specification §4)."""
