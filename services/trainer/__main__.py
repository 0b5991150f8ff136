"""`python -m roomgrad_trebuchet.trainer`."""

from roomgrad import main
from roomgrad_trebuchet.trainer.handlers import component

if __name__ == "__main__":
    main(component)
