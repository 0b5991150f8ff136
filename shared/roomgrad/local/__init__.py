"""Processes on this machine: the embedded server, components, swarm files."""
