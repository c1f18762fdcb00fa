"""The bodies of requests and responses, and the work between them.

`request_bodies` checks what clients send, `feature_requests` and `signals` carry it out on a session, `responses`
writes the answer; `ofrep` translates to OpenFeature flags. It knows no HTTP (no status, no header but the origin's),
no storage and no clock. Start with `feature_requests`.
"""
