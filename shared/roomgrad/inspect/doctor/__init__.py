"""The checks of `roomgrad doctor`: settings of a server that lose data, and runs that are stuck."""
