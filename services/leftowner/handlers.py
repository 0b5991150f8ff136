"""The owner of the left columns."""

from roomgrad_split.contract import LEFT
from roomgrad_split.owner import owner

component = owner(LEFT)
