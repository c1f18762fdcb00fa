"""What every daemon needs: options, life cycle, web manners, authentication, logs, metrics, database."""
