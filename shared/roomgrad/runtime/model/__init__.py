"""The model of a learning component: its state, the log of its steps, and its snapshots."""
