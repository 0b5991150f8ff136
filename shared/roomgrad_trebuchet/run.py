"""`roomgrad run trebuchet`: serve a run, watch it learn, and report what it learned."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from rich.console import Console
from typer import Option

from roomgrad import files
from roomgrad.cli import options as typed
from roomgrad.cli import output
from roomgrad.cli.progress import progress
from roomgrad.cli.run import greet, stopped_by_user
from roomgrad.display import format_number
from roomgrad.errors import SettingsError
from roomgrad.local.plan import Plan
from roomgrad.local.session import Session, password_file, serve
from roomgrad.redis.client import Client
from roomgrad_trebuchet import ledger
from roomgrad_trebuchet.contract import CONTROLMODEL, SIMULATOR, TRAINER
from roomgrad_trebuchet.ledger import Ledger
from roomgrad_trebuchet.options import Trebuchet
from roomgrad_trebuchet.report import Report, show

if TYPE_CHECKING:
    from roomgrad_trebuchet.shoot import Shots

FRAMES = 60
ANSWER_S = 30.0
PICTURES = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class TrebuchetRun(Trebuchet):
    """`roomgrad run trebuchet`: a training in the foreground, with a report."""

    picture: Annotated[
        str, Option(help="Draw what was learned into this file.", metavar="FILE")
    ] = ""
    force: typed.Force = False
    json: typed.AsJson = False

    def run(self, plan: Plan, redis_url: str, fresh: bool, console: Console) -> None:
        """Train, evaluate and report."""
        _run(self, plan, redis_url, fresh, console)


@dataclass(frozen=True)
class Training:
    """Measurements of a training."""

    ledger: Ledger
    seconds: float
    """From when every component ran until the last batch was finished."""
    first_loss_s: float
    """From the start of the command until the first loss."""
    steps: int
    """Batches finished in that time; fewer than in all if the run was continued."""


def _run(options: TrebuchetRun, plan: Plan, redis_url: str, fresh: bool, console: Console) -> None:
    began = time.monotonic()
    picture = options.picture
    _check_picture(picture, options.force)
    with stopped_by_user(), serve(plan, redis_url, fresh=fresh, say=output.say) as session:
        about = f"{options.steps} steps, seed {options.seed}, preset {options.preset}"
        greet(session, about)
        session.start(CONTROLMODEL, SIMULATOR)
        before = _before(session) if picture else None
        session.start(TRAINER)
        training = _watch(session, options.steps, console, began)
        session.wait_alive(CONTROLMODEL, SIMULATOR)
        report = _report(session, options, training)
        if picture:
            _draw(session, before, Path(picture), options.force)
        show(console, report, picture)
    if options.json:
        output.say(report.json())


def _before(session: Session) -> Shots | None:
    """Return shots of the untrained model; None if the run was continued."""
    session.wait_alive(CONTROLMODEL, SIMULATOR)
    found = ledger.read(session.client, session.plan.names)
    return None if found.applied else _ask_spread(session)


def _watch(session: Session, steps: int, console: Console, began: float) -> Training:
    """Show the progress until every batch is finished or dead.

    The time of the training begins when every component runs, so that it does not contain the
    imports of their processes.
    """
    first: Ledger | None = None
    started = first_loss_s = 0.0
    with progress(console, "step", steps, "waiting for the first loss") as show_progress:
        while True:
            now = session.poll(ledger.read) or Ledger()
            if first is None and now.sent and session.all_alive(*session.plan.components):
                first, started = now, time.monotonic()
            if now.newest is not None:
                first_loss_s = first_loss_s or time.monotonic() - began
                loss, miss = format_number(now.newest.loss), format_number(now.newest.miss_m)
                numbers = f"loss {loss:>9}   mean miss {miss:>6} m"
                show_progress(now.finished + now.dead, numbers)
            if now.sent and now.finished + now.dead >= steps:
                first, started = first or now, started or time.monotonic()
                seconds = time.monotonic() - started
                return Training(now, seconds, first_loss_s, now.finished - first.finished)
            time.sleep(0.1 if first else 0.01)


def _report(session: Session, options: TrebuchetRun, training: Training) -> Report:
    from roomgrad_trebuchet import shoot

    with _client(session) as client:
        held_out = shoot.ask(client, shoot.held_out(), timeout_s=ANSWER_S)
        few = shoot.ask(client, shoot.spread(shoot.held_out()), timeout_s=ANSWER_S)
    rows = [
        {"wind": float(few.wind[i]), "target": float(few.target[i]), **few.row(i)}
        for i in range(len(few.wind))
    ]
    seen = training.ledger
    return Report(
        run=session.plan.names.run,
        steps=options.steps,
        applied_steps=seen.applied,
        seconds=round(training.seconds, 3),
        steps_per_second=round(training.steps / max(training.seconds, 1e-9), 2),
        mean_miss_m=round(float(np.mean(held_out.miss)), 4),
        median_miss_m=round(float(np.median(held_out.miss)), 4),
        lost=seen.lost,
        duplicates=seen.duplicates,
        mean_staleness=round(seen.mean_staleness, 2),
        open=seen.open,
        dead=seen.dead,
        weights_sha256=ledger.weights_sha256(session.client, session.plan.names),
        seed=options.seed,
        preset=options.preset,
        replicas=session.plan.replicas,
        server=session.server_name(),
        first_loss_s=round(training.first_loss_s, 3),
        restarts=session.launcher.restarts,
        shots=rows,
        logs=str(session.launcher.directory),
        url=session.url,
    )


def _ask_spread(session: Session) -> Shots:
    from roomgrad_trebuchet import shoot

    with _client(session) as client:
        pairs = shoot.spread(shoot.held_out())
        return shoot.ask(client, pairs, frames=FRAMES, timeout_s=ANSWER_S)


def _client(session: Session) -> Client:
    return Client(
        session.plan.contract,
        run=session.plan.names.run,
        redis_url=session.url,
        password_file=password_file(),
    )


def _check_picture(picture: str, force: bool) -> None:
    """Raise SettingsError before the training if the picture could not be written."""
    path = Path(picture)
    if picture and path.suffix not in PICTURES:
        raise SettingsError(
            f"--picture {picture}: allowed is a file that ends in .png, .svg or .pdf"
        )
    if picture and not path.resolve().parent.is_dir():
        raise SettingsError(f"--picture {picture}: there is no folder {path.resolve().parent}")
    if picture:
        files.refuse_existing(path, force)


def _draw(session: Session, before: Shots | None, path: Path, force: bool) -> None:
    """Draw in a separate process, the only one that imports matplotlib."""
    after = _ask_spread(session)
    curve = np.array(ledger.losses(session.client, session.plan.names), dtype=np.float64)
    source = session.launcher.directory / "measured.npz"
    measured: dict[str, Any] = {
        "step": curve[:, 0],
        "loss": curve[:, 1],
        "miss": curve[:, 2],
        "wind": after.wind,
        "target": after.target,
        "after": after.trajectories,
    }
    if before is not None:
        measured["before"] = before.trajectories
    np.savez(source, **measured)
    drawn = source.with_suffix(path.suffix)
    command = [sys.executable, "-m", "roomgrad_trebuchet.picture", str(source), str(drawn)]
    subprocess.run(command, check=True)
    files.write(path, drawn.read_bytes(), force=force)
