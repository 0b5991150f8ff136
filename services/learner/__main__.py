"""`python -m roomgrad_melody.learner`."""

from roomgrad import main

from .handlers import component

if __name__ == "__main__":
    main(component)
