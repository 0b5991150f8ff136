"""`python -m roomgrad_melody.learner`."""

from roomgrad import main
from roomgrad_melody.learner.handlers import component

if __name__ == "__main__":
    main(component)
