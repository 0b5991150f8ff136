"""`python -m tests.integration.ensembles.keeper`."""

from __future__ import annotations

from roomgrad import main
from tests.integration.ensembles.zoo import keeper

component = keeper()

if __name__ == "__main__":
    main(component)
