"""Notes that a supervisor reads after the death of the process that wrote them."""

from __future__ import annotations

import os

import pytest

from django_taskq.worker.notes import Notes


@pytest.fixture
def notes() -> Notes:
    return Notes(4)


def test_a_note_says_what_a_slot_runs_since_when_and_until_when(notes: Notes) -> None:
    notes.set(2, b"1-1 default:0", 12.5)
    assert notes.read() == [(b"1-1 default:0", 12.5, 0.0, None)]
    notes.limit(2, 99.5)
    assert notes.read() == [(b"1-1 default:0", 12.5, 99.5, None)]
    notes.clear(2)
    assert notes.read() == []


def test_the_next_note_forgets_the_limit_of_the_one_before(notes: Notes) -> None:
    notes.set(0, b"1-1 default:0", 1.0)
    notes.limit(0, 99.5)
    notes.clear(0)
    notes.set(0, b"1-2 default:0", 2.0)
    assert notes.read()[0].hard_deadline == 0.0


def test_slots_do_not_disturb_each_other(notes: Notes) -> None:
    for slot in range(4):
        notes.set(slot, b"%d-0 %s:0" % (slot, b"q" * 100), float(slot))
    notes.clear(1)
    assert [note.started for note in notes.read()] == [0.0, 2.0, 3.0]
    assert all(note.location.endswith(b"q" * 100 + b":0") for note in notes.read())


def test_a_location_that_does_not_fit_is_not_noted(notes: Notes) -> None:
    notes.set(0, b"x" * 300, 1.0)
    assert notes.read() == []
    notes.set(0, b"x" * 230, 1.0)
    assert len(notes.read()[0].location) == 230


def test_what_a_child_noted_can_be_read_after_its_death(notes: Notes) -> None:
    pid = os.fork()
    if not pid:
        notes.set(3, b"7-7 mail:5", 3.5)
        os._exit(0)
    os.waitpid(pid, 0)
    assert notes.read() == [(b"7-7 mail:5", 3.5, 0.0, None)]
