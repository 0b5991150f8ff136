"""`python -m services.simulator`."""

from roomgrad import main
from services.simulator.handlers import component

if __name__ == "__main__":
    main(component)
