"""`python -m roomgrad_swergio.gateway`."""

from .process import main

if __name__ == "__main__":
    main()
