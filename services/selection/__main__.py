"""`python -m roomgrad_rlgym.selection`."""

from roomgrad import main
from roomgrad_rlgym.selection.handlers import component

if __name__ == "__main__":
    main(component)
