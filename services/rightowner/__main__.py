"""`python -m roomgrad_split.rightowner`."""

from roomgrad import main
from roomgrad_split.rightowner.handlers import component

if __name__ == "__main__":
    main(component)
