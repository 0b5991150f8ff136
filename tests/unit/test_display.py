"""Which names may be shown in a line: those that people write, and none that changes the line."""

from __future__ import annotations

import pytest

from roomgrad.display import is_displayable, one_spelling
from roomgrad.errors import DecodeError, Rejected
from roomgrad_melody.questions import checked_name
from roomgrad_melody.rows import InvalidValue, rater_of
from roomgrad_swergio.gateway.codec import text_field

NAMES = {
    "Persian, a zero-width non-joiner as its spelling needs": "محمد\u200cامین",
    "Sinhala, a conjunct by a zero-width joiner": "ශ්\u200dරීමති",
    "Malayalam, a joiner at the end": "അനില്\u200d",
    "Hindi, an explicit half form": "रक्\u200dषा",
    "emoji of several parts": "👩\u200d🔬 Ada",
    "a flag, written with tags": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "Arabic and Latin with a mark of direction": "ليلى\u200e (Berlin)",
    "an apostrophe": "Seán O\u2019Brien",
    "a letter newer than this Python": "\U00010d50",
}
TRICKS = {
    "nothing": "",
    "spaces alone": " \u00a0\u2003",
    "a joiner alone": "\u200c\u200d",
    "a byte order mark alone": "\ufeff",
    "an override": "\u202egnp.exe",
    "an embedding": "a\u202bb",
    "an isolate": "a\u2066b",
    "an escape sequence": "\x1b[2J",
    "a C1 control sequence": "\x9b2J",
    "a line": "a\nb",
    "a line separator": "a\u2028b",
    "a paragraph separator": "a\u2029b",
    "half a surrogate pair": "a\ud83d",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_as_people_write_it_is_accepted_by_all(name: str) -> None:
    """By the page and the terminal, in a file of labels, and as the name of a client."""
    assert checked_name(name) == name
    assert rater_of(name) == name
    assert text_field({"NAME": name}, "NAME") == name


@pytest.mark.parametrize("name", TRICKS.values(), ids=TRICKS)
def test_a_name_that_changes_its_line_or_is_invisible_is_refused_by_all(name: str) -> None:
    assert not is_displayable(name)
    with pytest.raises(Rejected):
        checked_name(name)
    with pytest.raises(DecodeError):
        text_field({"NAME": name}, "NAME")
    if name:  # a label of a file may have no rater
        with pytest.raises(InvalidValue):
            rater_of(name)


def test_one_person_has_one_name_however_it_was_typed_or_pasted() -> None:
    """Composed, with plain spaces, without what cannot be seen at its ends."""
    assert one_spelling("Anna\u00a0Maria") == one_spelling(" Anna\u2003Maria\n") == "Anna Maria"
    assert one_spelling("\u200fZoe\u0308\u200e") == "Zo\u00eb"
    assert one_spelling("അനില്\u200d") == "അനില്\u200d", "a joiner at the end is a part of the letter"
