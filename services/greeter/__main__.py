"""`python -m roomgrad_hello.greeter`."""

from roomgrad import main
from roomgrad_hello.greeter.handlers import component

if __name__ == "__main__":
    main(component)
