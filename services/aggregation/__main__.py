"""`python -m roomgrad_rlgym.aggregation`."""

from roomgrad import main
from roomgrad_rlgym.aggregation.handlers import component

if __name__ == "__main__":
    main(component)
