"""`python -m services.labelling`."""

from services.labelling.site import main

if __name__ == "__main__":
    main()
