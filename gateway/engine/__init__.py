"""The engine: how a tick becomes last value, state row, lookup entry, message and derived ticks.

Channels and their feeds (`channels`), record ids (`ids`), lookup by id (`lookup`), staging areas (`staging`), and the
engine that applies one tick after the other (`engine`). It knows no sockets, files or clocks: subscribers are callables
and the time is an argument. Start reading at `engine`.
"""
