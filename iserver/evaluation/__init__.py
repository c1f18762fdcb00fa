"""What a visitor sees of a feature: pure functions of the configuration, the visitor and the time.

`definition` makes an FDL program ready for requests, `audiences` compiles the rules of audiences, and `plans` decides
gates, experiments and outputs. Nothing here knows sessions, storage or a clock: callers pass in what is needed.
Start with `FeaturePlan.evaluate` in `plans`.
"""
