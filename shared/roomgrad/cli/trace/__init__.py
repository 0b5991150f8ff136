"""One root through all rooms: who had it, for how long, and where it is now."""
