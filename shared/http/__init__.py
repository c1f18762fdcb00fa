"""One HTTP server for the house: aiohttp with the middleware, error answers and limits that every daemon has.

Decides how a request is read and bounded, what becomes of an error, what is logged and counted, and which pages may
act. It knows no daemon and no route but `/healthz`, `/readyz` and `/metrics`. Start reading in `app`.
"""
