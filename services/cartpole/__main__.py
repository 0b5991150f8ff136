"""`python -m roomgrad_rlgym.cartpole`."""

from roomgrad import main
from roomgrad_rlgym.cartpole.handlers import component

if __name__ == "__main__":
    main(component)
