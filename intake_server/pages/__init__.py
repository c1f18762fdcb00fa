"""The files of the pages, as they are sent."""
