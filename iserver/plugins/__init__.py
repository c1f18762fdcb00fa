"""Code of the operator's own, called while sessions live.

`runner` calls plugins with a time limit, in threads where they block, and contains their failures; `views` is what a
plugin sees and may change. Plugins never reach a session itself, and a call that fails changes nothing.
Start with `PluginRunner`.
"""
