"""How far a run is."""

import redis

from roomgrad import exact_json
from roomgrad.names import Names
from roomgrad.systems import Progress
from roomgrad_split.contract import HEAD


def progress(client: redis.Redis, names: Names) -> Progress | None:
    """Return the epochs that are done, with the newest accuracy; None before the first one."""
    found = [exact_json.loads(each) for each in client.hvals(names.table("accuracy"))]
    stored = client.hget(names.run_info(), f"settings:{HEAD}")
    if not found or not isinstance(stored, bytes):
        return None
    newest = max(found, key=lambda each: each["epoch"])
    accuracy = f"held-out accuracy {newest['accuracy']:.1%}"
    epochs = exact_json.loads(stored)["epochs"]
    return Progress(newest["epoch"], epochs, "epochs", (accuracy,), figures=newest)
