"""`python -m roomgrad.web.dashboard`."""

from roomgrad.web.dashboard.site import main

if __name__ == "__main__":
    main()
