"""`python -m roomgrad_trebuchet.controlmodel`."""

from roomgrad import main

from .handlers import component

if __name__ == "__main__":
    main(component)
