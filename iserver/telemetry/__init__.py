"""What the daemon measures of itself, and how it leaves the process.

`metrics` names and reads the counters, `exporter` sends them to an OpenTelemetry collector, `otlp_data` translates
between the two data models. Nothing that is measured knows that it is. Start with `metrics.measure`.
"""
