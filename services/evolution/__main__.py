"""`python -m services.evolution`."""

from roomgrad import main
from services.evolution.handlers import component

if __name__ == "__main__":
    main(component)
