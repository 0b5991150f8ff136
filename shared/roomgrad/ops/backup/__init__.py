"""Backup of a run into a file, and restore on any server, under any name."""
