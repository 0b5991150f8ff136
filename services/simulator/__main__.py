"""`python -m roomgrad_trebuchet.simulator`."""

from roomgrad import main
from roomgrad_trebuchet.simulator.handlers import component

if __name__ == "__main__":
    main(component)
