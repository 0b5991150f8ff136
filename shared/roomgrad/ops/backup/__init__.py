"""A run in a file, and back: on another server, of another make, under another name."""
