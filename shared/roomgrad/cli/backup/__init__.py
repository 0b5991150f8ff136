"""`roomgrad backup` and `roomgrad restore`."""
