"""How far a run is."""

import redis

from roomgrad import exact_json
from roomgrad.names import Names
from roomgrad.systems import Progress
from roomgrad_rlgym.contract import CONTROL


def progress(client: redis.Redis, names: Names) -> Progress | None:
    """Return the generations that are done, with the newest return; None before the first one.

    The last one is that which reaches the aim.
    """
    found = [exact_json.loads(each) for each in client.hvals(names.table("generations"))]
    stored = client.hget(names.run_info(), f"settings:{CONTROL}")
    if not found or not isinstance(stored, bytes):
        return None
    newest = max(found, key=lambda each: each["generation"])
    done, settings = newest["generation"], exact_json.loads(stored)
    total = done if newest["mean_return"] >= settings["aim"] else settings["generations"]
    said = f"mean return {newest['mean_return']:.1f}"
    return Progress(done, total, "generations", (said,), figures=newest)
