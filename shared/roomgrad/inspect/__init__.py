"""Read a run: its keys, streams, groups, replicas, entries, traces and dead letters.

Nothing here starts, sends or changes anything, except `dead_letters`, which can requeue and delete.
"""
