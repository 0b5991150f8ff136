"""The commands that look into a run: rooms, info, lag, ps, memory, model, top."""
