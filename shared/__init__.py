"""What every daemon needs: options, life cycle, HTTP applications, authentication, logs, metrics, database."""
