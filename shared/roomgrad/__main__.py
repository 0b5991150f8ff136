"""`python -m roomgrad`."""

from roomgrad.cli.main import main

main()
