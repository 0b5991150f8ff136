"""The owner of the right columns."""

from roomgrad_split.contract import RIGHT
from roomgrad_split.owner import owner

component = owner(RIGHT)
