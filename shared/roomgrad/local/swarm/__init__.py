"""Swarm files: programs of one's own that `roomgrad up swarm.yaml` starts and supervises."""
