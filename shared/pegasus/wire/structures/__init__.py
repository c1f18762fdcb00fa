"""The messages of Pegasus, one module for each file of its IDL (protocol appendix D).

Every class is declared with `shared.pegasus.wire.thrift.struct`; `codec_of(Class)` gives its codec.
A member that is absent from a message has its type's zero value, an optional one None. Where the IDL
carries a node twice, as an address and as a host_port of the same name with `hp_` before it, we fill both.
"""
