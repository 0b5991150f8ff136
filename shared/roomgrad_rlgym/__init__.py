"""Reinforcement learning by an ensemble: its members vote on actions, learn and are bred."""

from pathlib import Path

# A wheel contains the components; in a checkout they lie in services/, one folder per container.
_services = Path(__file__).resolve().parents[2] / "services"
if _services.is_dir():
    __path__.append(str(_services))
