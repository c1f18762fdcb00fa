"""The settings of the original: their catalog, their values, and the options that set them.

Decides which names exist, which can change while a daemon runs, and how a value is checked. Start reading in `flags`.
"""
