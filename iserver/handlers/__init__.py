"""The HTTP edge: parse, call the engine, encode.

`client` is what applications and browsers call, `sse` the event stream of QA devices, `admin` what operators call,
`ofrep` what OpenFeature SDKs call, `control_plane` what the FDL compiler calls. `middleware` gives errors their status
and text. Handlers decide nothing and store nothing; which path leads to which is in `iserver.app`.
Start with `ClientHandlers.features`.
"""
