"""`python -m roomgrad_rlgym.policy`."""

from roomgrad import main
from roomgrad_rlgym.policy.handlers import component

if __name__ == "__main__":
    main(component)
