"""`python -m roomgrad_split.leftowner`."""

from roomgrad import main
from roomgrad_split.leftowner.handlers import component

if __name__ == "__main__":
    main(component)
