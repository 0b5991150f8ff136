"""`python -m services.learner`."""

from roomgrad import main
from services.learner.handlers import component

if __name__ == "__main__":
    main(component)
