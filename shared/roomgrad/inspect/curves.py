"""Curves of a training run: the loss of each step, and the metrics that its system declares."""

from __future__ import annotations

from typing import Any

import redis

from roomgrad.inspect.series import Series, curve
from roomgrad.names import Names
from roomgrad.redis import registry
from roomgrad.systems import installed, load

LOSSES = "losses"


class Curves:
    """The table `losses` of a run as curves. Only new records are read."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._series = Series(names.table(LOSSES))

    def read(self, client: redis.Redis) -> dict[str, Any]:
        """Return the curves of the run, each as `series.curve` returns it, over steps."""
        self._series.update(client)
        records = [each for each in self._series.records.values() if "loss" in each]
        titles = {**self._metrics(client), "loss": "Loss"}
        curves = []
        for field, title in titles.items():
            points = [[each["step"], each[field]] for each in records if field in each]
            if points:
                curves.append({"name": field, "title": title, **curve(points)})
        return {"run": self._names.run, "curves": curves}

    def _metrics(self, client: redis.Redis) -> dict[str, str]:
        """Return what the run's system measures beside the loss: title by field of the table."""
        system = registry.system_of_run(client, self._names)
        plugin = installed().get(system.name) if system else None
        gauges = load(plugin.metrics) if plugin else ()
        return {gauge.field: gauge.about.rstrip(".") for gauge in gauges if gauge.table == LOSSES}
