"""The modules that come with the gateway, each usable by name in a channel file (§8.4).

Every one uses only the public interface of `gateway.modules.api`. Start reading at `timer`, the shortest.
"""
