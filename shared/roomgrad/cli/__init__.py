"""What the command `roomgrad` does: runs, processes, progress, reports."""
