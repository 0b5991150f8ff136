"""Start processes on this machine: the embedded server, components, programs of swarm files."""
