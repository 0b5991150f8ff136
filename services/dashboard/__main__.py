"""`python -m roomgrad.web.dashboard`."""

from roomgrad.web.dashboard.server import main

if __name__ == "__main__":
    main()
