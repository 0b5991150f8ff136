"""A component of one object: a network that learns, a function, a black box, another program."""
