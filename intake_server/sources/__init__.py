"""Source ids, the open sources behind them, and what is read from those.

The room decides what an id stands for, when a source is opened and closed, and which reads are shared, cached or put
off. It knows neither catalogs nor HTTP: whoever calls it has found the entry and checked the caller. Start reading at
`specs`, then `pool`, then `reads`.
"""
