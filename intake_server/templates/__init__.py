"""From the arguments that a catalog's author wrote, and the values that a caller sent, to constructor arguments.

The room decides what a caller's text may become: it is marked before a template sees it, and where it landed decides
whether it may stay. It never opens a file or contacts a server, and it knows no requests. Start reading at
`resolution`; `rendering` and `sandbox` are Jinja2 with limits.
"""
