"""`python -m roomgrad_melody.evalnet`."""

from roomgrad import main
from roomgrad_melody.evalnet.handlers import component

if __name__ == "__main__":
    main(component)
