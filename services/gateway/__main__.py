"""`python -m roomgrad_swergio.gateway`."""

from roomgrad_swergio.gateway.process import main

if __name__ == "__main__":
    main()
