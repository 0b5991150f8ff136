"""Swarm files: programs of the user that `roomgrad up swarm.yaml` starts and supervises."""
