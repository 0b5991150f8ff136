"""`python -m roomgrad_trebuchet.controlmodel`."""

from roomgrad import main
from roomgrad_trebuchet.controlmodel.handlers import component

if __name__ == "__main__":
    main(component)
