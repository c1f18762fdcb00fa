"""The HTTP edges of the Intake server protocol: parse, ask the service, encode."""
