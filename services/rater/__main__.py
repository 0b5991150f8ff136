"""`python -m roomgrad_melody.rater`."""

from roomgrad import main
from roomgrad_melody.rater.handlers import component

if __name__ == "__main__":
    main(component)
