"""Optional observation of a running component: log lines, metrics, spans."""
