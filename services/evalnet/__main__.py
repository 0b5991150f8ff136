"""`python -m services.evalnet`."""

from roomgrad import main
from services.evalnet.handlers import component

if __name__ == "__main__":
    main(component)
