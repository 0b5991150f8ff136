"""`python -m roomgrad_melody.evolution`."""

from roomgrad import main
from roomgrad_melody.evolution.handlers import component

if __name__ == "__main__":
    main(component)
