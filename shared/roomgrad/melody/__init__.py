"""Melodies as 128 bits: what every component of the second system has in common."""
