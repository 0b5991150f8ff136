"""`python -m roomgrad_melody.labelling`."""

from .server import main

if __name__ == "__main__":
    main()
