"""`python -m roomgrad_melody.labelling`."""

from roomgrad_melody.labelling.server import main

if __name__ == "__main__":
    main()
