"""Dead letters: read, put back, thrown away."""
