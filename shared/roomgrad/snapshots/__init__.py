"""Where snapshots of a model's state are stored as bytes, and how they are found and verified."""
