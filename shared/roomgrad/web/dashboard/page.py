"""The dashboard's endpoints: all of them are read by GET, and none changes anything."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import redis
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from roomgrad.errors import RoomgradError, Unavailable
from roomgrad.inspect import traces
from roomgrad.inspect.curves import Curves
from roomgrad.inspect.keys import newest_run, runs_on
from roomgrad.names import LONGEST_RUN, Names
from roomgrad.web import serving
from roomgrad.web.dashboard import panels
from roomgrad.web.dashboard.watch import Watch
from roomgrad.web.guard import refuse
from roomgrad.web.store import Store

STATIC = Path(__file__).parent / "static"
MOST_WATCHED = 50  # runs at a time
LONGEST_ID = 128  # characters, as in a message


@dataclass
class Page:
    """The endpoints and what they need."""

    store: Callable[[str], Store[redis.Redis]]
    """Returns the connection for a run; if the name is empty, one to any server of a cluster."""

    run: str
    """The run that is shown first; any if empty."""

    watch: Callable[[Names], Watch]
    watches: dict[str, Watch] = field(default_factory=dict)
    """By run, those that a page shows or showed a moment ago."""

    curves: OrderedDict[str, Curves] = field(default_factory=OrderedDict)
    """By run, those that were requested last."""

    def app(self) -> Starlette:
        """Return the application, without its guard."""
        routes = [
            Route("/healthz", self.health),
            Route("/api/runs", self.show_runs),
            Route("/api/changes", self.show_changes),
            Route("/api/training", self.show_training),
            Route("/api/roots/{root}", self.show_root),
            *serving.files(STATIC),
            *panels.files(),
        ]
        return Starlette(routes=routes, exception_handlers=serving.EXCEPTION_HANDLERS)

    async def health(self, _request: Request) -> Response:
        """Return 200: the page works. Its changes tell whether the Redis server does."""
        return JSONResponse({"well": True})

    async def show_runs(self, request: Request) -> Response:
        """Return the runs on the server, and the one to show first, if none is shown yet."""
        runs = await self.store("").ask(runs_on)
        first = request.query_params.get("shown", "") or self.run
        first = first or await self.store("").ask(newest_run)
        return JSONResponse({"runs": sorted({*runs, *filter(None, [self.run])}), "first": first})

    async def show_changes(self, request: Request) -> Response:
        """Return what has changed in a run since the response that is named."""
        names = _names(request)
        self.watches = {run: each for run, each in self.watches.items() if not each.is_idle}
        if names.run not in self.watches and len(self.watches) >= MOST_WATCHED:
            return refuse(503, f"{MOST_WATCHED} runs are watched, more are too many")
        watch = self.watches.get(names.run) or self.watch(names)
        self.watches[names.run] = watch
        news = watch.changes.since(request.query_params.get("since", ""))
        return Response(news, media_type="application/json")

    async def show_training(self, request: Request) -> Response:
        """Return the curves of any run, to be drawn over those of another one."""
        names = _names(request)
        curves = self.curves.setdefault(names.run, Curves(names))
        self.curves.move_to_end(names.run)
        if len(self.curves) > MOST_WATCHED:
            self.curves.popitem(last=False)
        return _json(await self.store(names.run).ask(curves.read))

    async def show_root(self, request: Request) -> Response:
        """Return the trace of one root, hop by hop."""
        names, root = _names(request), request.path_params["root"]
        if len(root) > LONGEST_ID:
            raise HTTPException(422, f"root: expected the ID of a root, got {root[:60]!r}")

        def work(client: redis.Redis) -> dict[str, Any]:
            trace, _ = traces.find(client, names, root)
            return traces.to_json(names, trace)

        try:
            return _json(await self.store(names.run).ask(work))
        except Unavailable:
            raise
        except RoomgradError as error:
            raise HTTPException(404, str(error)) from error

    def close(self) -> None:
        """End all threads."""
        for watch in self.watches.values():
            watch.stop()


def _names(request: Request) -> Names:
    run = request.query_params.get("run", "")
    if not 0 < len(run) <= LONGEST_RUN:
        raise HTTPException(422, f"run: expected the name of a run, got {run[:60]!r}")
    return Names(run)


def _json(found: Any) -> Response:
    return Response(orjson.dumps(found, default=str), media_type="application/json")
