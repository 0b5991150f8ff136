"""`python -m roomgrad_melody.labelling`."""

from .site import main

if __name__ == "__main__":
    main()
