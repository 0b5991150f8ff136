"""`python -m roomgrad`."""

from roomgrad.cli import main

main()
