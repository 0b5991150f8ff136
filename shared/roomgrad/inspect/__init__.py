"""What a running system is seen to do: keys, heartbeats, ledgers, letters, traces. Only reads."""
