"""`python -m roomgrad_hello.world`."""

from roomgrad import main
from roomgrad_hello.world.handlers import component

if __name__ == "__main__":
    main(component)
