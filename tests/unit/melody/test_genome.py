"""The genome: bits to values, degrees, notes and text, and what counts as the same melody."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomgrad_melody import genome
from roomgrad_melody.genome import Genomes, Note

BITS = st.lists(st.integers(0, 1), min_size=128, max_size=128)
SLOTS = st.lists(st.integers(0, 15), min_size=32, max_size=32)


def bits_of(values: list[int]) -> Genomes:
    """The genome `(128,)` of 32 values."""
    return np.array([[value >> bit & 1 for bit in range(4)] for value in values], np.uint8).ravel()


def melody(*values: int) -> Genomes:
    """A genome that begins with these values; rests fill it up."""
    return bits_of([*values, *[8] * (32 - len(values))])


@given(SLOTS)
def test_values_are_read_low_bit_first(slots: list[int]) -> None:
    genomes = bits_of(slots)[None]
    assert genome.values(genomes).tolist() == [slots]
    assert genome.degrees(genomes).tolist() == [[one if one < 8 else -1 for one in slots]]


@given(SLOTS)
def test_a_canonical_melody_sounds_alike_and_has_one_kind_of_rest(slots: list[int]) -> None:
    genomes = bits_of(slots)[None]
    canonical = genome.canonical(genomes)
    assert genome.values(canonical).tolist() == [[min(one, 8) for one in slots]]
    assert (genome.canonical(canonical) == canonical).all()
    assert genome.notes(canonical[0]) == genome.notes(genomes[0])


def test_making_a_melody_canonical_leaves_the_genome_alone() -> None:
    genomes = bits_of([15] * 32)[None]
    genome.canonical(genomes)
    assert genomes.all()


@given(BITS)
def test_text_goes_and_comes_back_as_the_canonical_melody(bits: list[int]) -> None:
    one = np.array(bits, np.uint8)
    text = genome.text(one)
    assert (genome.from_text(text) == genome.canonical(one)).all()
    assert genome.text(genome.from_text(text)) == text
    assert genome.texts(np.stack([one, 1 - one])) == [text, genome.text(1 - one)]


def test_a_text_begins_with_the_first_slots_low_bit() -> None:
    assert genome.text(melody(1, 6)).startswith("100001100001")


@pytest.mark.parametrize("text", ["", "01" * 63, "2" * 128, "0" * 127 + "x", " " * 128, "٠" * 128])
def test_a_text_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected 128") as refused:
        genome.from_text(text)
    assert repr(text) in str(refused.value)


@given(BITS)
def test_packed_bits_come_back_as_they_were(bits: list[int]) -> None:
    genomes = np.array([bits], np.uint8)
    packed = genome.packed(genomes)
    assert packed.shape == (1, 16)
    assert int(packed[0, 0]) == sum(bit << place for place, bit in enumerate(bits[:8]))
    assert (genome.unpacked(packed) == genomes).all()


def test_random_genomes_are_a_function_of_seed_and_number() -> None:
    draw = genome.random_genomes(3, 5, 1000)
    assert (draw == genome.random_genomes(3, 5, 1000)).all()
    assert (draw[:10] != genome.random_genomes(3, 6, 10)).any()
    assert (draw[:10] != genome.random_genomes(4, 5, 10)).any()
    assert draw.dtype == np.uint8
    assert draw.shape == (1000, 128)
    assert abs(draw.mean() - 0.5) < 0.01


def test_the_first_of_each_sound_is_marked() -> None:
    genomes = np.stack([melody(0, 9), melody(1), melody(0, 8), melody(0, 7), melody(1, 15)])
    assert genome.distinct(genomes).tolist() == [True, True, False, True, False]


def test_no_genomes_are_fine() -> None:
    none = np.zeros((0, 128), np.uint8)
    assert genome.check(none).shape == (0, 128)
    assert genome.texts(none) == []
    assert genome.distinct(none).shape == (0,)
    assert genome.values(none).shape == (0, 32)


def test_bits_of_any_kind_pass_as_uint8() -> None:
    checked = genome.check(np.ones((2, 128), np.float32))
    assert checked.dtype == np.uint8
    assert checked.all()


@pytest.mark.parametrize("shape", [(128,), (2, 127), (1, 2, 128), ()])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"shape .*expected \(n, 128\)"):
        genome.check(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("value", [2, -1, 0.5, float("nan")])
def test_other_values_are_refused(value: float) -> None:
    genomes = np.zeros((2, 128))
    genomes[1, 7] = value
    with pytest.raises(ValueError, match="expected 0 or 1"):
        genome.check(genomes)


def test_repeated_notes_tie_and_rests_are_silent() -> None:
    found = genome.notes(melody(0, 0, 3, 8, 3, 13, 0))
    expected = [Note(0, 2, 48), Note(2, 1, 53), Note(4, 1, 53), Note(6, 1, 48)]
    assert found == expected


def test_a_note_ties_over_the_bar_line_to_the_end() -> None:
    assert genome.notes(bits_of([7] * 32), root=60) == [Note(0, 32, 72)]
    assert genome.notes(bits_of([8] * 32)) == []


@pytest.mark.parametrize("scale", genome.SCALES)
def test_every_scale_has_eight_rising_degrees(scale: str) -> None:
    pitches = [note.midi for note in genome.notes(melody(*range(8)), root=50, scale=scale)]
    assert len(pitches) == 8
    assert pitches[0] == 50
    assert pitches == sorted(set(pitches))


def test_a_scale_or_root_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="the scale is 'blues'; expected one of major"):
        genome.notes(melody(0), scale="blues")
    with pytest.raises(ValueError, match="the root is 120; expected 0 to 115"):
        genome.notes(melody(0), root=120)


def test_spread_melodies_are_of_all_kinds() -> None:
    """Few notes and many, small steps and large ones; random melodies are all alike in that."""
    genomes = genome.spread_genomes(3, 400)
    assert (genomes == genome.canonical(genomes)).all()
    assert (genomes == genome.spread_genomes(3, 400)).all()
    assert (genomes != genome.spread_genomes(4, 400)).any()
    notes = [row[row >= 0].astype(int) for row in genome.degrees(genomes)]
    counts = np.array([len(each) for each in notes])
    steps = np.array([np.abs(np.diff(each)).mean() for each in notes if len(each) > 8])
    assert counts.min() < 6
    assert counts.max() > 29
    assert steps.min() < 1.0
    assert steps.max() > 3.0
    assert np.bincount(np.concatenate(notes), minlength=8).min() > 0


def test_texts_become_genomes_again() -> None:
    genomes = genome.canonical(genome.random_genomes(1, 2, 3))
    assert (genome.from_texts(genome.texts(genomes)) == genomes).all()
    assert genome.from_texts([]).shape == (0, 128)
