"""`roomgrad new`: a folder with a small system of one's own, which runs at once."""
