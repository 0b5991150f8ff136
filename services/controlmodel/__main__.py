"""`python -m services.controlmodel`."""

from roomgrad import main
from services.controlmodel.handlers import component

if __name__ == "__main__":
    main(component)
