"""The doctor: what a server does to data that it should not, and what a run suffers from."""
