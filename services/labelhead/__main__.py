"""`python -m roomgrad_split.labelhead`."""

from roomgrad import main
from roomgrad_split.labelhead.handlers import component

if __name__ == "__main__":
    main(component)
