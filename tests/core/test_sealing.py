"""Sealed values: what comes back, and what does not."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_taskq.core.sealing import (
    Keyring,
    Place,
    from_json,
    is_sealed_json,
    key_id_of,
    new_key,
    parse_key,
    to_json,
)
from django_taskq.exceptions import KeyMissing, Undecryptable

OLD, NEW = os.urandom(32), os.urandom(32)
RING = Keyring({"new": NEW, "old": OLD})
ID = bytes(range(16))
PLACE = Place(ID, "shop.tasks.charge", "result", 1)

places = st.builds(
    Place,
    st.binary(min_size=16, max_size=16),
    st.text(max_size=20),
    st.sampled_from(["call", "result", "error_message"]),
    st.integers(0, 99),
)


@given(places, st.binary(max_size=300))
def test_what_was_sealed_comes_back(place: Place, plain: bytes):
    sealed = RING.seal(place, plain)
    assert RING.open(place, sealed) == plain
    assert key_id_of(sealed) == "new"
    assert from_json(to_json(sealed)) == sealed
    assert is_sealed_json(to_json(sealed))
    assert len(plain) < 8 or plain not in sealed.encode()


@given(st.data())
def test_any_flipped_bit_is_refused(data: st.DataObject):
    sealed = RING.seal(PLACE, b'{"card":"4111"}')
    position = data.draw(st.integers(0, len(sealed) - 1))
    altered = sealed.encode()
    altered = (
        altered[:position] + bytes([altered[position] ^ (1 << data.draw(st.integers(0, 6)))]) + altered[position + 1 :]
    )
    with pytest.raises(Undecryptable):
        RING.open(PLACE, altered.decode())


@given(st.integers(0, 90))
def test_what_was_cut_is_refused(length: int):
    sealed = RING.seal(PLACE, b'{"card":"4111"}')
    with pytest.raises(Undecryptable):
        RING.open(PLACE, sealed[: min(length, len(sealed) - 1)])


@given(places, places)
def test_what_was_sealed_for_one_place_opens_in_no_other(place: Place, other: Place):
    if place != other:
        with pytest.raises(Undecryptable):
            RING.open(other, RING.seal(place, b"x"))


def test_the_parts_of_a_place_cannot_flow_into_each_other():
    sealed = RING.seal(Place(ID, "b", "result", 1), b"x")
    with pytest.raises(Undecryptable):
        RING.open(Place(ID, "1\0b", "result", 1), sealed)


def test_the_same_value_never_looks_the_same():
    assert RING.seal(PLACE, b"x") != RING.seal(PLACE, b"x")


def test_an_old_key_opens_and_the_first_seals():
    old = Keyring({"old": OLD}).seal(PLACE, b"x")
    assert RING.open(PLACE, old) == b"x"
    assert RING.first == "new"


def test_a_key_by_another_name_does_not_open():
    """Otherwise a key id could be changed to make a value look as if it needed another key."""
    sealed = RING.seal(PLACE, b"x")
    with pytest.raises(Undecryptable):
        Keyring({"other": NEW}).open(PLACE, sealed.replace(":new:", ":other:"))


def test_a_key_that_is_not_here_is_named():
    sealed = RING.seal(PLACE, b"x")
    for ring in (Keyring({"old": OLD}), Keyring({"old": OLD, "new": None})):
        with pytest.raises(KeyMissing, match="'new'") as raised:
            ring.open(PLACE, sealed)
        assert raised.value.key_id == "new"
    with pytest.raises(KeyMissing):
        Keyring({"new": None, "old": OLD}).seal(PLACE, b"x")


def test_keys_are_32_bytes_of_base64():
    assert len(parse_key(f" {new_key()}\n")) == 32
    assert new_key() != new_key()
    for text, why in (("short", "base64"), ("c2hvcnQ=", "5 bytes"), ("", "0 bytes")):
        with pytest.raises(ValueError, match=why) as raised:
            parse_key(text)
        assert not text or text not in str(raised.value)
