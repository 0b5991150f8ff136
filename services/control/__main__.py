"""`python -m roomgrad_rlgym.control`."""

from roomgrad import main
from roomgrad_rlgym.control.handlers import component

if __name__ == "__main__":
    main(component)
