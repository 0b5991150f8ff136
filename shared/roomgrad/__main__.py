"""`python -m roomgrad`."""

from roomgrad.commands.cli import main

main()
