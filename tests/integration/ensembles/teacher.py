"""`python -m tests.integration.ensembles.teacher`."""

from __future__ import annotations

from roomgrad import main
from tests.integration.ensembles.zoo import teacher

component = teacher()

if __name__ == "__main__":
    main(component)
