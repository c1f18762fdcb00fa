"""Where sessions are kept while they run, and where they go when they are over."""
