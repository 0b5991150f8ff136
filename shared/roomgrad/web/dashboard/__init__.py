"""A page that shows the runs of a server, live. It only reads."""
