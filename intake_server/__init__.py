"""The Intake catalog server: catalogs and data sources over the intake protocol."""
