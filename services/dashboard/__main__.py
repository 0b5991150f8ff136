"""`python -m services.dashboard`."""

from services.dashboard.site import main

if __name__ == "__main__":
    main()
