"""One streaming subscriber: its session, its bounded queue, and where it resumes.

Decides what an action of a client does, what happens when a subscriber is slow, and which ticks a client missed. The
same for WebSocket and server-sent events, whose sockets are in `gateway.handlers`. Start reading at `session`.
"""
