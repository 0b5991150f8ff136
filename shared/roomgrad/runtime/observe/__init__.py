"""What others may know of a component at work: log lines, metrics, spans. All of it is optional."""
