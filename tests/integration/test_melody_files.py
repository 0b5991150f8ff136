"""Labels and melodies as files, and questions in a terminal, with the real components."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from roomgrad.testing import running
from roomgrad_melody import formats
from roomgrad_melody.commands import standing
from roomgrad_melody.evalnet.handlers import component as evalnet
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.evolution.handlers import component as evolution
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.midi import from_midi
from roomgrad_melody.rows import as_given
from tests.integration.conftest import ROOT, Cage, make_cage
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

QUICK = {"heartbeat_interval_s": 0.1, "heartbeat_lives_s": 0.5, "block_s": 0.1}


@dataclass
class Desk:
    """A run on a server, and commands that are typed there."""

    cage: Cage
    folder: Path
    stack: ExitStack

    @property
    def run(self) -> str:
        return self.cage.names.run

    def learns(self, **more: int) -> None:
        """Starts a learner, and returns when it listens."""
        self.stack.enter_context(
            running(learner, LearnerSettings(run=self.run, **QUICK, **more), self.cage.url)
        )
        until(lambda: self.alive("learner"))

    def breeds(self) -> None:
        """Starts evalnet and evolution, and returns when a generation is rated."""
        settings = {"run": self.run, **QUICK}
        self.stack.enter_context(running(evalnet, EvalnetSettings(**settings), self.cage.url))
        bred = EvolutionSettings(population=20, pause_s=0.05, **settings)
        self.stack.enter_context(running(evolution, bred, self.cage.url))
        until(lambda: standing.best(self.cage.client, self.cage.names)[0] >= 0, 60)

    def alive(self, component: str) -> bool:
        keys = self.cage.client.scan_iter(match=f"{self.cage.names.alive(component)}~*")
        return any(True for _ in keys)

    def types(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """A command of this run."""
        path = os.pathsep.join([str(ROOT / "shared"), str(ROOT)])
        here = {"REDIS_URL": self.cage.url, "ROOMGRAD_STATE": str(self.folder / "state")}
        return subprocess.run(
            [sys.executable, "-m", "roomgrad", *words, "--run", self.run],
            env={**os.environ, **here, "PYTHONPATH": path},
            cwd=self.folder,
            input=given,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_bytes(text.encode())
        return name


@pytest.fixture
def desk(embedded_url: str, tmp_path: Path) -> Iterator[Desk]:
    for cage in make_cage(embedded_url):
        with ExitStack() as stack:
            yield Desk(cage, tmp_path, stack)


def line(seed: int, rating: int) -> str:
    """A line of the tutorial's CSV, with a melody of its own."""
    bits = random.Random(seed).choices("01", k=128)
    return f'"({", ".join(bits)})",{rating}\n'


REVISED = "".join(line(*row) for row in [(1, 3), (2, 0), (3, 5), (1, 4), (4, 1), (3, 5), (1, 2)])


def test_what_is_imported_is_exported_to_the_byte(desk: Desk) -> None:
    """With its revisions, and once only however often it is imported."""
    desk.learns()
    name = desk.file("labels.csv", REVISED)
    trial = desk.types("labels", "import", name, "--dry-run")
    assert "would import 7 of 7 ratings of labels.csv; nothing was changed." in trial.stdout
    assert desk.types("labels", "export").stdout == ""
    assert "imported 7 of 7 ratings" in desk.types("labels", "import", name).stdout
    assert "wrote 7 ratings" in desk.types("labels", "export", "out.csv").stdout
    assert (desk.folder / "out.csv").read_bytes() == REVISED.encode()
    again = desk.types("labels", "import", name)
    assert "imported 0 of 7 ratings of labels.csv, 7 stand already." in again.stdout
    assert desk.types("labels", "export").stdout == REVISED
    latest = line(2, 0) + line(4, 1) + line(3, 5) + line(1, 2)
    assert desk.types("labels", "export", "--latest").stdout == latest


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_other_formats_hold_the_same_labels(desk: Desk, format: str) -> None:
    """And who gave them, where it was one person."""
    desk.learns()
    desk.types("labels", "import", desk.file("labels.csv", REVISED), "--rater", "anna")
    text = desk.types("labels", "export", "--format", format).stdout
    assert text.count('"anna"') == 7
    name = desk.file(f"labels.{format}", text)
    again = desk.types("labels", "import", name)
    assert "7 stand already" in again.stdout, again.stderr


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_each_label_keeps_who_gave_it_and_when(desk: Desk, format: str) -> None:
    """Several people's labels in one file come back as they went in, to the byte."""
    desk.learns()
    rows = formats.read(REVISED, "csv").rows
    people = ["anna", "ben", "anna", "anna", "carl", "ben", "anna"]
    signed = [
        formats.Row(row.genome, row.rating, who, 1.7e9 + place)
        for place, (row, who) in enumerate(zip(rows, people, strict=True))
    ]
    text = formats.write(signed, format)
    desk.types("labels", "import", desk.file(f"labels.{format}", text))
    assert desk.types("labels", "export", "--format", format).stdout == text


def test_conflicts_are_named_by_their_lines_before_anything_is_sent(desk: Desk) -> None:
    """And decided as one says."""
    desk.learns()
    desk.types("labels", "import", desk.file("labels.csv", line(1, 3) + line(2, 2)))
    other = desk.file("other.csv", line(5, 5) + line(1, 4) + line(2, 2))
    refused = desk.types("labels", "import", other)
    assert refused.returncode == 1
    assert "other.csv: line 2: the rating is 4, but 3 by file" in refused.stderr
    assert "--on-conflict keep or replace" in refused.stderr
    assert desk.types("labels", "export").stdout == line(1, 3) + line(2, 2)
    kept = desk.types("labels", "import", other, "--on-conflict", "keep")
    assert "imported 1 of 3 ratings of other.csv" in kept.stdout
    assert desk.types("labels", "export", "--latest").stdout == line(1, 3) + line(2, 2) + line(5, 5)
    replaced = desk.types("labels", "import", other, "--on-conflict", "replace")
    assert "imported 1 of 3" in replaced.stdout
    assert desk.types("labels", "export").stdout.endswith(line(5, 5) + line(1, 4))


def test_a_file_with_one_wrong_line_is_not_imported(desk: Desk) -> None:
    """Unless one says so."""
    desk.learns()
    name = desk.file("labels.csv", line(1, 3) + line(2, 7) + line(3, 1))
    refused = desk.types("labels", "import", name)
    assert refused.returncode == 1
    assert "labels.csv: line 2, column 388: expected a whole number from 0 to 5" in refused.stderr
    assert "1 line that cannot be read, so nothing was imported" in refused.stderr
    assert desk.types("labels", "export").stdout == ""
    desk.types("labels", "import", name, "--skip-bad-lines")
    assert desk.types("labels", "export").stdout == line(1, 3) + line(3, 1)


def test_labels_wait_for_a_learner(desk: Desk) -> None:
    """The command says so, and the learner takes them when it comes."""
    name = desk.file("labels.csv", line(1, 3))
    nowhere = desk.types("labels", "import", name)
    assert nowhere.returncode == 1
    assert f"there is no run '{desk.run}'" in nowhere.stderr
    with ExitStack() as soon:
        desk.stack, whole = soon, desk.stack
        desk.learns()
    until(lambda: not desk.alive("learner"))
    waiting = desk.types("labels", "import", name)
    assert waiting.returncode == 1
    assert "the labels wait in room user" in waiting.stderr
    desk.stack = whole
    desk.learns()
    until(lambda: len(standing.log(desk.cage.client, desk.cage.names)) == 1)


def test_somebody_rates_in_a_terminal(desk: Desk) -> None:
    """Lines are as good as keys; what is taken back is asked again."""
    alone = desk.types("rate")
    assert alone.returncode == 1
    assert "no learner of run" in alone.stderr
    desk.learns(nr_of_unlabeled_data=20, again=0)
    desk.breeds()
    said = desk.types("rate", "--rater", "anna", given="3\n9\n4\nu\n0\ns\n5\n").stdout
    assert said.startswith("You are anna. 0-5 rates")
    assert "3; the network had guessed" in said
    assert "'9'? 0-5 rates" in said
    assert "your 4 is taken back; what do you say now?" in said
    assert said.endswith("3 ratings given.\n")
    until(lambda: len(standing.log(desk.cage.client, desk.cage.names)) == 5)
    entries = standing.log(desk.cage.client, desk.cage.names)
    assert [entry["rating"] for entry in entries] == [3, 4, None, 0, 5]
    assert {entry["rater"] for entry in entries} == {"anna"}
    assert entries[1]["melody"] == entries[3]["melody"]
    exported = desk.types("labels", "export").stdout.splitlines()
    assert [row[-1] for row in exported] == ["3", "0", "5"]


def test_the_best_melodies_become_files(desk: Desk) -> None:
    """MIDI holds the genome; what is read back is what stands in the run."""
    early = desk.types("melody", "export", "tunes")
    assert early.returncode == 1
    assert "no rated generation yet" in early.stderr
    desk.breeds()
    assert desk.types("melody", "export", "tunes", "--bpm", "90").returncode == 0
    paths = sorted((desk.folder / "tunes").glob("*.mid"))
    assert paths
    genome = as_given(from_midi(paths[0].read_bytes()))
    read = subprocess.run(
        [sys.executable, "-m", "roomgrad", "melody", "import", str(paths[0])],
        capture_output=True,
        text=True,
        cwd=ROOT / "shared",
    )
    assert read.stdout.strip() == genome
    desk.types("melody", "export", "sounds", "--format", "wav")
    assert sorted((desk.folder / "sounds").glob("*.wav"))
    slow = desk.types("melody", "export", "slow", "--bpm", "1")
    assert slow.returncode == 2
    assert "20 to 400" in slow.stderr
