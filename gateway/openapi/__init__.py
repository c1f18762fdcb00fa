"""The documents that describe a gateway: OpenAPI for its routes, AsyncAPI for its stream.

Built from the declarations alone; real clients read them to learn what they may call. They know no running engine and
no requests. Start reading at `openapi`.
"""
