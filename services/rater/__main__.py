"""`python -m services.rater`."""

from roomgrad import main
from services.rater.handlers import component

if __name__ == "__main__":
    main(component)
