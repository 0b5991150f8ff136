"""The dashboard: a page that shows any run on a server, and only reads."""
