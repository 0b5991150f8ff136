"""Labels and melodies as files, and questions in a terminal, with the real components."""

from __future__ import annotations

import os
import pty
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from roomgrad.errors import RunMismatch
from roomgrad.runtime.replica import Replica
from roomgrad.testing import running
from roomgrad_melody import formats
from roomgrad_melody.commands import standing
from roomgrad_melody.contract import PAIRS_LOG
from roomgrad_melody.evalnet.handlers import component as evalnet
from roomgrad_melody.evalnet.settings import EvalnetSettings
from roomgrad_melody.evolution.handlers import component as evolution
from roomgrad_melody.evolution.settings import EvolutionSettings
from roomgrad_melody.genome import canonical, pair_key, random_genomes, texts
from roomgrad_melody.learner.handlers import component as learner
from roomgrad_melody.learner.settings import LearnerSettings
from roomgrad_melody.midi import from_midi
from roomgrad_melody.rows import as_given
from tests.integration.conftest import EchoRun, make_echo_run
from tests.integration.echo import echo_component
from tests.roomgrad_command import roomgrad
from tests.waiting import until

pytestmark = pytest.mark.timeout(120)

QUICK = {"heartbeat_interval_s": 0.1, "heartbeat_lives_s": 0.5, "block_s": 0.1}


@dataclass
class RatingFiles:
    """A run on a server, and commands that are typed there."""

    echo: EchoRun
    folder: Path
    stack: ExitStack

    @property
    def run(self) -> str:
        return self.echo.names.run

    def learns(self, **more: Any) -> None:
        """Starts a learner that asks for ratings, and returns when it listens."""
        settings = LearnerSettings(**{"run": self.run, "ask": "ratings", **QUICK, **more})
        self.stack.enter_context(running(learner, settings, self.echo.url))
        until(lambda: self.alive("learner"))

    def breeds(self) -> None:
        """Starts evalnet and evolution, and returns when a generation is rated."""
        settings = {"run": self.run, **QUICK}
        self.stack.enter_context(running(evalnet, EvalnetSettings(**settings), self.echo.url))
        bred = EvolutionSettings(population=20, pause_s=0.05, **settings)
        self.stack.enter_context(running(evolution, bred, self.echo.url))
        until(lambda: standing.best(self.echo.client, self.echo.names)[0] >= 0)

    def alive(self, component: str) -> bool:
        keys = self.echo.client.scan_iter(match=f"{self.echo.names.alive(component)}~*")
        return any(True for _ in keys)

    def types(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command on this run."""
        environ = {"REDIS_URL": self.echo.url, "ROOMGRAD_STATE": str(self.folder / "state")}
        words = (*words, "--run", self.run)
        return roomgrad(*words, environ=environ, cwd=self.folder, typed=given)

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_bytes(text.encode())
        return name


@pytest.fixture
def rating_files(embedded_url: str, tmp_path: Path) -> Iterator[RatingFiles]:
    for echo in make_echo_run(embedded_url):
        with ExitStack() as stack:
            yield RatingFiles(echo, tmp_path, stack)


def line(seed: int, rating: int) -> str:
    """A line of the tutorial's CSV, with a melody of its own."""
    bits = random.Random(seed).choices("01", k=128)
    return f'"({", ".join(bits)})",{rating}\n'


REVISED = "".join(line(*row) for row in [(1, 3), (2, 0), (3, 5), (1, 4), (4, 1), (3, 5), (1, 2)])


def test_what_is_imported_is_exported_to_the_byte(rating_files: RatingFiles) -> None:
    """With its revisions, and once only however often it is imported."""
    rating_files.learns()
    name = rating_files.file("labels.csv", REVISED)
    trial = rating_files.types("labels", "import", name, "--dry-run")
    assert "would import 7 of 7 ratings of labels.csv; nothing was changed." in trial.stdout
    assert rating_files.types("labels", "export").stdout == ""
    assert "imported 7 of 7 ratings" in rating_files.types("labels", "import", name).stdout
    assert "wrote 7 ratings" in rating_files.types("labels", "export", "out.csv").stdout
    assert (rating_files.folder / "out.csv").read_bytes() == REVISED.encode()
    again = rating_files.types("labels", "import", name)
    assert "imported 0 of 7 ratings of labels.csv, 7 are stored already." in again.stdout
    assert rating_files.types("labels", "export").stdout == REVISED
    latest = line(2, 0) + line(4, 1) + line(3, 5) + line(1, 2)
    assert rating_files.types("labels", "export", "--latest").stdout == latest


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_other_formats_hold_the_same_labels(rating_files: RatingFiles, format: str) -> None:
    """And who gave them, where it was one person."""
    rating_files.learns()
    rating_files.types(
        "labels", "import", rating_files.file("labels.csv", REVISED), "--rater", "anna"
    )
    text = rating_files.types("labels", "export", "--format", format).stdout
    assert text.count('"anna"') == 7
    name = rating_files.file(f"labels.{format}", text)
    again = rating_files.types("labels", "import", name)
    assert "7 are stored already" in again.stdout, again.stderr


@pytest.mark.parametrize("format", ["jsonl", "json"])
def test_each_label_keeps_who_gave_it_and_when(rating_files: RatingFiles, format: str) -> None:
    """Several people's labels in one file come back as they went in, to the byte."""
    rating_files.learns()
    rows = formats.read(REVISED, "csv").rows
    people = ["anna", "ben", "anna", "anna", "carl", "ben", "anna"]
    signed = [
        formats.Row(row.genome, row.rating, who, 1.7e9 + place)
        for place, (row, who) in enumerate(zip(rows, people, strict=True))
    ]
    text = formats.write(signed, format)
    rating_files.types("labels", "import", rating_files.file(f"labels.{format}", text))
    assert rating_files.types("labels", "export", "--format", format).stdout == text


def test_conflicts_are_named_by_their_lines_before_anything_is_sent(
    rating_files: RatingFiles,
) -> None:
    """And decided as one says."""
    rating_files.learns()
    rating_files.types("labels", "import", rating_files.file("labels.csv", line(1, 3) + line(2, 2)))
    other = rating_files.file("other.csv", line(5, 5) + line(1, 4) + line(2, 2))
    refused = rating_files.types("labels", "import", other)
    assert refused.returncode == 1
    assert "other.csv: line 2: the rating is 4, but 3 by file" in refused.stderr
    assert "--on-conflict keep or replace" in refused.stderr
    assert rating_files.types("labels", "export").stdout == line(1, 3) + line(2, 2)
    kept = rating_files.types("labels", "import", other, "--on-conflict", "keep")
    assert "imported 1 of 3 ratings of other.csv" in kept.stdout
    assert rating_files.types("labels", "export", "--latest").stdout == line(1, 3) + line(
        2, 2
    ) + line(5, 5)
    replaced = rating_files.types("labels", "import", other, "--on-conflict", "replace")
    assert "imported 1 of 3" in replaced.stdout
    assert rating_files.types("labels", "export").stdout.endswith(line(5, 5) + line(1, 4))


def test_a_file_with_one_wrong_line_is_not_imported(rating_files: RatingFiles) -> None:
    """Unless one says so."""
    rating_files.learns()
    name = rating_files.file("labels.csv", line(1, 3) + line(2, 7) + line(3, 1))
    refused = rating_files.types("labels", "import", name)
    assert refused.returncode == 1
    assert "labels.csv: line 2, column 388: expected a whole number from 0 to 5" in refused.stderr
    assert "1 line that cannot be read, so nothing was imported" in refused.stderr
    assert rating_files.types("labels", "export").stdout == ""
    rating_files.types("labels", "import", name, "--skip-bad-lines")
    assert rating_files.types("labels", "export").stdout == line(1, 3) + line(3, 1)


def test_labels_of_an_earlier_release_are_saved_before_a_run_begins_again(
    rating_files: RatingFiles,
) -> None:
    """The refusal of a run with other settings gives the commands, and they work."""
    rating_files.learns(again=0.05)
    name = rating_files.file("labels.csv", line(1, 3))
    rating_files.types("labels", "import", name)
    refused = Replica(learner, LearnerSettings(run=rating_files.run), rating_files.echo.url)
    with pytest.raises(RunMismatch) as caught:
        refused.run()
    assert "save its labels first by `roomgrad labels export FILE`" in str(caught.value)
    assert "begin again with --fresh (" in str(caught.value)
    assert "--labels-file FILE" in str(caught.value)
    assert rating_files.types("labels", "export", "saved.csv").returncode == 0
    assert (rating_files.folder / "saved.csv").read_text() == line(1, 3)


def test_labels_wait_for_a_learner(rating_files: RatingFiles) -> None:
    """The command says so, and the learner takes them when it comes."""
    name = rating_files.file("labels.csv", line(1, 3))
    nowhere = rating_files.types("labels", "import", name)
    assert nowhere.returncode == 1
    assert f"there is no run '{rating_files.run}'" in nowhere.stderr
    with ExitStack() as soon:
        rating_files.stack, whole = soon, rating_files.stack
        rating_files.learns()
    until(lambda: not rating_files.alive("learner"))
    waiting = rating_files.types("labels", "import", name)
    assert waiting.returncode == 1
    assert "the labels wait in room user" in waiting.stderr
    rating_files.stack = whole
    rating_files.learns()
    until(lambda: len(standing.log(rating_files.echo.client, rating_files.echo.names)) == 1)


def test_somebody_rates_in_a_terminal(rating_files: RatingFiles) -> None:
    """Lines are as good as keys; what is taken back is asked again."""
    alone = rating_files.types("rate")
    assert alone.returncode == 1
    assert "the learner of run" in alone.stderr
    rating_files.learns(nr_of_unlabeled_data=20, again=0)
    rating_files.breeds()
    said = rating_files.types("rate", "--rater", "anna", given="3\n9\n4\nu\n0\ns\n5\n").stdout
    assert said.startswith("You are anna. 0-5 rates")
    assert "3; the network had guessed" in said
    assert "'9'? 0-5 rates" in said
    assert "your 4 is taken back; what do you say now?" in said
    assert said.endswith("3 ratings given.\n")
    until(lambda: len(standing.log(rating_files.echo.client, rating_files.echo.names)) == 5)
    entries = standing.log(rating_files.echo.client, rating_files.echo.names)
    assert [entry["rating"] for entry in entries] == [3, 4, None, 0, 5]
    assert {entry["rater"] for entry in entries} == {"anna"}
    assert entries[1]["melody"] == entries[3]["melody"]
    exported = rating_files.types("labels", "export").stdout.splitlines()
    assert [row[-1] for row in exported] == ["3", "0", "5"]


def votes(rating_files: RatingFiles, count: int) -> list[dict[str, Any]]:
    """The log of votes as soon as it has so many."""
    client, names = rating_files.echo.client, rating_files.echo.names
    return until(lambda: len(found := standing.log(client, names, PAIRS_LOG)) == count and found)


def test_pairs_are_compared_in_a_terminal(rating_files: RatingFiles) -> None:
    """The winner stays; votes are taken back as ratings are, and a digit rates the second."""
    rating_files.learns(nr_of_unlabeled_data=20, again=0, ask="pairs")
    rating_files.breeds()
    said = rating_files.types(
        "rate", "--rater", "anna", given="b\nleft\ne\nx\nu\nn\n4\nu\n2\ns\nq\n"
    ).stdout
    assert "a or ←, b or →: that one is better" in said
    assert "'x'? a or ←" in said
    assert "your vote, equal, is taken back; what do you say now?" in said
    assert "your 4 is taken back; what do you say now?" in said
    assert said.endswith("1 rating and 3 votes given.\n")
    first, second, equal, retracted, neither = votes(rating_files, 5)
    preferences = [each["prefer"] for each in (first, second, equal, retracted, neither)]
    assert preferences == ["second", "first", "equal", "retracted", "neither"]
    assert first["second"] == second["first"] == equal["first"]
    pairs = [(each["first"], each["second"]) for each in (equal, retracted, neither)]
    assert pairs[0] == pairs[1] == pairs[2]
    until(lambda: len(standing.log(rating_files.echo.client, rating_files.echo.names)) == 3)
    entries = standing.log(rating_files.echo.client, rating_files.echo.names)
    assert [entry["rating"] for entry in entries] == [4, None, 2]


def test_several_raters_compare_in_terminals(rating_files: RatingFiles) -> None:
    """Each gets other questions, and takes back their own last vote."""
    rating_files.learns(nr_of_unlabeled_data=20, again=0, ask="pairs")
    rating_files.breeds()
    names = ["anna", "ben", "carl"]
    with ThreadPoolExecutor() as pool:
        list(
            pool.map(lambda who: rating_files.types("rate", "--rater", who, given="a\nb\n"), names)
        )
    found = votes(rating_files, 6)
    assert Counter(each["rater"] for each in found) == dict.fromkeys(names, 2)
    assert len({pair_key(each["first"], each["second"]) for each in found}) == 6
    rating_files.types("rate", "--rater", "ben", given="u\nq\n")
    assert [each["rater"] for each in votes(rating_files, 7) if each["prefer"] == "retracted"] == [
        "ben"
    ]


def test_arrow_keys_compare(rating_files: RatingFiles) -> None:
    """As a terminal sends them, where Esc alone quits."""
    rating_files.learns(nr_of_unlabeled_data=20, again=0, ask="pairs")
    rating_files.breeds()
    terminal, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "roomgrad", "rate", "--run", rating_files.run],
        env={**os.environ, "REDIS_URL": rating_files.echo.url},
        stdin=side,
        stdout=side,
    )
    rating_files.stack.callback(process.wait)
    rating_files.stack.callback(process.kill)
    for count, (key, prefers) in enumerate([(b"\x1b[C", "second"), (b"\x1b[D", "first")], 1):
        shown = b""
        while b"B:" not in shown:
            shown += os.read(terminal, 4096)
        os.write(terminal, key)
        assert votes(rating_files, count)[-1]["prefer"] == prefers
    os.write(terminal, b"\x1b")
    assert process.wait(30) == 0


VOTED = [  # revisions of a pair, also in the other order
    *((0, 1, "first", "anna"), (2, 3, "equal", "ben"), (0, 1, "neither", "anna")),
    *((1, 2, "second", "carl"), (3, 2, "first", "ben"), (0, 1, "second", "anna")),
]


def voted() -> list[formats.Pair]:
    melodies = texts(canonical(random_genomes(5, 0, 4)))
    return [
        formats.Pair(melodies[first], melodies[second], prefer, who, 1.7e9 + at, (at, 2 * at))
        for at, (first, second, prefer, who) in enumerate(VOTED)
    ]


@pytest.mark.parametrize("format", formats.FORMATS)
def test_votes_that_are_imported_are_exported_to_the_byte(
    rating_files: RatingFiles, format: str
) -> None:
    """With who, when, what was shown, and for how long it was heard; once however often."""
    rating_files.learns()
    text = formats.write_pairs(voted(), format)
    name = rating_files.file(f"pairs.{format}", text)
    trial = rating_files.types("labels", "import", name, "--dry-run")
    assert f"would import 6 of 6 votes of {name}; nothing was changed." in trial.stdout
    done = rating_files.types("labels", "import", name)
    assert f"imported 6 of 6 votes of {name}" in done.stdout, done.stderr
    again = rating_files.types("labels", "import", name)
    assert f"imported 0 of 6 votes of {name}, 6 are stored already." in again.stdout
    export = ("labels", "export", "--pairs", "--format", format)
    assert rating_files.types(*export).stdout == text
    latest = [pair for at, pair in enumerate(voted()) if at in (3, 4, 5)]
    assert rating_files.types(*export, "--latest").stdout == formats.write_pairs(latest, format)
    assert rating_files.types("labels", "export").stdout == ""


def test_conflicts_of_votes_are_named_by_their_lines(rating_files: RatingFiles) -> None:
    """The same vote in the other order is none; a file with a wrong line changes nothing."""
    rating_files.learns()
    [one, *_, other] = voted()
    assert one.first == other.first
    rating_files.types(
        "labels", "import", rating_files.file("one.jsonl", formats.write_pairs([one], "jsonl"))
    )
    swapped = formats.Pair(one.second, one.first, "second", "ben")
    same = rating_files.file("same.jsonl", formats.write_pairs([swapped], "jsonl"))
    assert "1 are stored already" in rating_files.types("labels", "import", same).stdout
    name = rating_files.file("other.jsonl", "\n" + formats.write_pairs([other], "jsonl"))
    refused = rating_files.types("labels", "import", name)
    assert refused.returncode == 1
    assert "other.jsonl: line 2: the vote is second, but first by anna" in refused.stderr
    assert "have another vote already, so nothing was imported" in refused.stderr
    kept = rating_files.types("labels", "import", name, "--on-conflict", "keep")
    assert "1 are kept unchanged" in kept.stdout
    replaced = rating_files.types("labels", "import", name, "--on-conflict", "replace")
    assert "imported 1 of 1 votes" in replaced.stdout
    exported = ("labels", "export", "--pairs", "--format", "jsonl")
    assert rating_files.types(*exported).stdout == formats.write_pairs([one, other], "jsonl")
    wrong = rating_files.file("wrong.jsonl", formats.write_pairs(voted(), "jsonl") + "{}\n")
    told = rating_files.types("labels", "import", wrong)
    assert told.returncode == 1
    assert "wrong.jsonl: line 7, column 1: expected" in told.stderr
    assert rating_files.types(*exported).stdout == formats.write_pairs([one, other], "jsonl")


def test_a_run_begins_with_ratings_not_with_votes(rating_files: RatingFiles) -> None:
    name = rating_files.file("pairs.csv", formats.write_pairs(voted(), "csv"))
    refused = roomgrad("run", "melody", "--labels-file", name, cwd=rating_files.folder)
    assert refused.returncode == 2
    assert "pairs.csv has votes on pairs; expected ratings" in refused.stderr


def test_the_best_melodies_become_files(rating_files: RatingFiles) -> None:
    """MIDI holds the genome; what is read back is what stands in the run."""
    rating_files.learns(nr_of_unlabeled_data=20)
    early = rating_files.types("melody", "export", "tunes")
    assert early.returncode == 1
    assert "no rated generation yet" in early.stderr
    rating_files.breeds()
    assert rating_files.types("melody", "export", "tunes", "--bpm", "90").returncode == 0
    paths = sorted((rating_files.folder / "tunes").glob("*.mid"))
    assert paths
    genome = as_given(from_midi(paths[0].read_bytes()))
    read = roomgrad("melody", "import", str(paths[0]))
    assert read.stdout.strip() == genome
    rating_files.types("melody", "export", "sounds", "--format", "wav")
    assert sorted((rating_files.folder / "sounds").glob("*.wav"))
    slow = rating_files.types("melody", "export", "slow", "--bpm", "1")
    assert slow.returncode == 2
    assert "20 to 400" in slow.stderr


def test_an_export_of_a_run_that_is_not_there_leaves_the_old_files(
    rating_files: RatingFiles,
) -> None:
    """Also if the file may be replaced; a run of another system has no labels either."""
    old = rating_files.file("labels.csv", "yesterday")
    absent = rating_files.types("labels", "export", old, "--force")
    assert absent.returncode == 2
    assert f"there is no run '{rating_files.run}'" in absent.stderr
    assert rating_files.types("labels", "export").returncode == 2
    tunes = rating_files.types("melody", "export", "tunes")
    assert tunes.returncode == 2
    assert f"there is no run '{rating_files.run}'" in tunes.stderr
    rating_files.echo.start(echo_component())
    other = rating_files.types("labels", "export", old, "--force")
    assert other.returncode == 2
    assert "of echo breeds no melodies" in other.stderr
    assert rating_files.types("melody", "export", "tunes").returncode == 2
    assert [each.name for each in rating_files.folder.iterdir()] == [old]
    assert (rating_files.folder / old).read_text() == "yesterday"


def test_exports_replace_files_on_request_only(rating_files: RatingFiles) -> None:
    rating_files.learns(nr_of_unlabeled_data=20)
    rating_files.breeds()
    old = rating_files.file("labels.csv", "yesterday")
    refused = rating_files.types("labels", "export", old)
    assert refused.returncode == 2
    assert "labels.csv exists: name another file, or replace it by --force" in refused.stderr
    assert (rating_files.folder / old).read_text() == "yesterday"
    assert rating_files.types("labels", "export", old, "--force").returncode == 0
    assert (rating_files.folder / old).read_text() == ""
