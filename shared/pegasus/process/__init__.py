"""What every Pegasus process answers: version, start time, settings, metrics, profiles.

Start reading in `common_routes`.
"""
