"""`python -m services.trainer`."""

from roomgrad import main
from services.trainer.handlers import component

if __name__ == "__main__":
    main(component)
