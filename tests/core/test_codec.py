"""Calls and results through JSON: what arrives is what was given, or delay() refuses it."""

from __future__ import annotations

import dataclasses
import enum
import math
import uuid
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, Protocol, TypedDict, Union
from zoneinfo import ZoneInfo

import msgspec
import pytest
from django.db import models
from django.utils.safestring import SafeString
from hypothesis import given, settings
from hypothesis import strategies as st

from django_taskq.core.codec import CallCodec
from django_taskq.exceptions import InvalidArguments, InvalidTask, ResultError

# Fixed: test ids are the same in every process that collects them.
UNIQUE = uuid.UUID("7f1c0c1e-93f7-4f0e-a6e5-0d8b5d1f3a52")
NOW = datetime(2024, 1, 1, 12, tzinfo=UTC)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Whole(int):
    pass


@dataclasses.dataclass
class Address:
    street: str
    since: date | None = None
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)


class Point(msgspec.Struct):
    x: float
    y: float | None = None


class Pair(NamedTuple):
    left: int
    right: str


class Person(TypedDict):
    name: str
    born: date


class Speaks(Protocol):
    def speak(self) -> str: ...


def codec(function: Any) -> CallCodec:
    return CallCodec("shop.task", function)


def through(function: Any, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The call as a worker gets it: twice from the same codec, because the second time takes the learnt path."""
    sender, receiver = codec(function), codec(function)
    arrived = receiver.bind(*sender.encode(args, kwargs))
    assert receiver.bind(*sender.encode(args, kwargs)) == arrived or args != args
    return arrived


# --- the shape of a call ----------------------------------------------------------------------------------------------


def shapes(a: int, /, b: int, c: int = 3, *, d: int, e: int = 5) -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((1, 2), {"d": 4}), ((1, 2, 3), {"d": 4, "e": 5}), ((1,), {"b": 2, "d": 4}), ((1,), {"d": 4, "c": 3, "b": 2})],
)
def test_a_call_arrives_in_the_shape_it_was_made(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert through(shapes, *args, **kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ((), {"d": 4}, "missing a required"),
        ((1,), {"d": 4}, "missing a required argument: 'b'"),
        ((1, 2), {}, "missing a required"),
        ((1, 2, 3, 4), {"d": 4}, "too many positional arguments"),
        ((1, 2), {"d": 4, "z": 1}, "unexpected keyword argument 'z'"),
        ((1, 2), {"d": 4, "b": 2}, "multiple values for argument 'b'"),
        ((), {"a": 1, "b": 2, "d": 4}, "'a'"),
    ],
)
def test_a_call_that_does_not_fit_the_signature_is_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidArguments, match=text) as caught:
        codec(shapes).encode(args, kwargs)
    assert "shop.task(a: int, /, b: int, c: int = 3, *, d: int, e: int = 5)" in str(caught.value).replace("'", "")


def test_the_same_wrong_call_is_refused_after_right_ones() -> None:
    sender = codec(shapes)
    for _ in range(3):
        sender.encode((1, 2), {"d": 4})
        with pytest.raises(InvalidArguments):
            sender.encode((1, 2, 3, 4), {"d": 4})
        with pytest.raises(InvalidArguments):
            sender.encode((1, 2), {"e": 4})


def test_a_worker_refuses_what_does_not_fit() -> None:
    receiver = codec(shapes)
    assert receiver.bind(b"[1,2]", b'{"d":4}') == ((1, 2), {"d": 4})
    for args, kwargs in [(b"[1]", b'{"d":4}'), (b"[1,2]", b"{}"), (b"[1,2,3,4]", b'{"d":4}'), (b"[1,2]", b'{"z":4}')]:
        with pytest.raises(InvalidArguments, match=r"shop\.task"):
            receiver.bind(args, kwargs)


@pytest.mark.parametrize("raw", [b"", b"{}", b"[1", b"null", b"[\xff]", b"[1]x", b"7"])
def test_a_worker_refuses_what_is_no_json_array(raw: bytes) -> None:
    with pytest.raises(InvalidArguments):
        codec(shapes).bind(raw, b"{}")


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"a"', b"null", b'{"\xff":1}'])
def test_a_worker_refuses_what_is_no_json_object(raw: bytes) -> None:
    with pytest.raises(InvalidArguments):
        codec(shapes).bind(b"[1,2]", raw)


def test_a_json_string_that_is_not_utf8_is_refused() -> None:
    def plain(a: str) -> None: ...

    with pytest.raises(InvalidArguments, match="a:"):
        codec(plain).bind(b'["\xff\xfe"]', b"{}")


def test_variable_arguments_are_typed_too() -> None:
    def collect(first: str, *days: date, flag: bool = False, **times: timedelta) -> None: ...

    day, span = date(2024, 2, 29), timedelta(minutes=3)
    assert through(collect, "a") == (("a",), {})
    assert through(collect, "a", day, day, flag=True, x=span) == (("a", day, day), {"flag": True, "x": span})
    with pytest.raises(InvalidArguments, match=r"days\[1\]"):
        codec(collect).encode(("a", day, "never"), {})
    with pytest.raises(InvalidArguments, match="soon"):
        codec(collect).encode(("a",), {"soon": 5.5j})


def test_a_positional_only_name_may_be_a_keyword_as_well() -> None:
    def odd(name: int, /, **name_of: str) -> None: ...

    assert through(odd, 1, name="x") == ((1,), {"name": "x"})


def test_many_shapes_do_not_pile_up() -> None:
    def anything(*args: int, **kwargs: int) -> None: ...

    both = codec(anything)
    for number in range(700):
        call = (tuple(range(number % 300)), {f"k{number}": number})
        assert both.bind(*both.encode(*call)) == call
    assert len(both._shapes) <= 256
    assert len(both._carried) <= 256
    assert len(both._array_decoders) <= 256


def test_the_context_is_no_argument_of_the_caller() -> None:
    def informed(context: Any, user_id: int) -> None: ...

    both = CallCodec("shop.informed", informed, takes_context=True)
    assert both.bind(*both.encode((7,), {})) == ((7,), {})
    with pytest.raises(InvalidArguments):
        both.encode((None, 7), {})


# --- parameters without a hint ----------------------------------------------------------------------------------------


def bare(value, *rest, **more):  # type: ignore[no-untyped-def]
    ...


PLAIN = [
    None, True, False, 0, -1, 2**53 + 1, 2**63, 2**64, -(2**70), 0.0, -0.0, 1.5, 1e300, "", "ä\x00\U0001f600", [], {},
    [1, [2, {"a": None}]], {"a": {"b": [1.5, "x", True]}}, {"": 1},
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_plain_json_arrives_as_it_is(value: Any) -> None:
    (arrived,), _ = through(bare, value)
    assert arrived == value
    assert repr(arrived) == repr(value)
    assert through(bare, 1, value, key=value) == ((1, value), {"key": value})


CHANGED = [
    (1, 2), {1, 2}, frozenset(), b"x", bytearray(b"x"), memoryview(b"x"), math.nan, math.inf, -math.inf, "\ud800",
    {1: 2}, {1.5: 2}, {None: 1}, {(1, 2): 3}, {True: 1}, {"\udfff": 1}, Colour.RED, Level.LOW, Word.YES, Whole(3),
    SafeString("<b>"), datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1), time(1), timedelta(1), Decimal("1.5"),
    uuid.uuid4(), Address("x"), Point(1.0), Pair(1, "x"), object(), 1j, range(3), len, int, Address, iter([]),
]  # fmt: skip


@pytest.mark.parametrize("value", CHANGED, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v], lambda v: {"key": [0, v]}], ids=["bare", "list", "dict"])
def test_what_json_would_change_is_refused(value: Any, wrap: Any) -> None:
    sender = codec(bare)
    sender.encode((1,), {})
    for args, kwargs, label in [((wrap(value),), {}, "value"), ((1, 2, wrap(value)), {}, r"rest\[1\]")]:
        with pytest.raises(InvalidArguments, match=f"shop.task: {label}"):
            sender.encode(args, kwargs)
    with pytest.raises(InvalidArguments, match=r"shop\.task: word"):
        sender.encode((1,), {"word": wrap(value)})


def test_the_refusal_says_where_and_what_to_do() -> None:
    with pytest.raises(InvalidArguments) as caught:
        codec(bare).encode(({"rows": [{"when": 1}, {"when": date(2024, 1, 1)}]},), {})
    text = str(caught.value)
    assert text.startswith("shop.task: value['rows'][1]['when'] is of type date and would arrive as str.")
    assert "type hint" in text


def test_nesting_without_end_is_refused_not_a_recursion_error() -> None:
    deep: Any = 1
    for _ in range(20_000):
        deep = [deep]
    endless: list[Any] = []
    endless.append(endless)
    for value in (deep, endless, {"a": endless}):
        with pytest.raises(InvalidArguments, match=r"value.*nested too deeply"):
            codec(bare).encode((value,), {})
    with pytest.raises(InvalidArguments):
        codec(bare).bind(b"[" * 20_000 + b"]" * 20_000, b"{}")


def test_an_integer_that_python_will_not_print_is_refused() -> None:
    with pytest.raises(InvalidArguments, match="value"):
        codec(bare).encode((10**5000,), {})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.integers() | st.booleans(), inner, max_size=3)
    ),
    max_leaves=12,
)


def typed(value: Any) -> Any:
    """A form in which 1 is not True and a list is not a tuple."""
    if isinstance(value, dict):
        return ("dict", [(typed(key), typed(item)) for key, item in value.items()])
    if isinstance(value, list | tuple):
        return (type(value).__name__, [typed(item) for item in value])
    return (type(value).__name__, repr(value))


@given(json_values, json_values)
@settings(max_examples=300, deadline=None)
def test_any_value_arrives_unchanged_or_is_refused(first: Any, second: Any) -> None:
    def annotated(a: Any, b: dict, c: list[Any] | None = None) -> None: ...  # type: ignore[type-arg]

    for function, args, kwargs in [(bare, (first, second), {"k": first}), (annotated, (first,), {"b": second})]:
        both = codec(function)
        try:
            arrived = both.bind(*both.encode(args, kwargs))
        except InvalidArguments:
            continue
        assert typed(arrived) == typed((args, kwargs))


# --- parameters with a hint -------------------------------------------------------------------------------------------

HINTED: list[tuple[Any, Any]] = [
    (int, 7), (int, 2**80), (str, "x"), (bool, True), (float, 1.5), (float, 3), (None, None),
    (datetime, datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)), (datetime, datetime(2024, 5, 6, 7, 8)),  # noqa: DTZ001
    (datetime, datetime(2024, 5, 6, tzinfo=ZoneInfo("Asia/Kolkata"))),
    (date, date(2024, 2, 29)), (time, time(1, 2, 3)), (timedelta, timedelta(days=3, microseconds=1)),
    (uuid.UUID, uuid.UUID(int=5)), (Decimal, Decimal("1.10")), (bytes, b"\x00\xff"), (Colour, Colour.RED),
    (Level, Level.LOW), (Word, Word.YES), (Address, Address("x", date(2024, 1, 1), {"a": [1]})), (Point, Point(1.5)),
    (Pair, Pair(1, "x")), (Person, {"name": "x", "born": date(2000, 1, 1)}), (list[date], [date(2024, 1, 1)]),
    (tuple[int, str], (1, "x")), (tuple[int, ...], (1, 2)), (set[int], {1, 2}), (frozenset[str], frozenset({"a"})),
    (dict[int, str], {1: "a"}), (dict[uuid.UUID, date], {uuid.UUID(int=1): date(2024, 1, 1)}),
    (int | None, None), (int | None, 7), (list[int] | None, [1]), (datetime | int, 5), (Literal["a", 1], "a"),
    (Annotated[int, msgspec.Meta(gt=0)], 5), (Any, {"a": 1}), (object, [1]), (Union[Address, None], None),  # noqa: UP007
    (dict, {"a": 1}), (list, [1, "x"]), (Speaks, "plain"), (models.Model, 7), (str | datetime, "x"),
]  # fmt: skip


@pytest.mark.parametrize(("hint", "value"), HINTED, ids=repr)
def test_a_hinted_value_arrives_as_its_type(hint: Any, value: Any) -> None:
    def function(value, *, word=None): ...  # type: ignore[no-untyped-def]

    function.__annotations__ = {"value": hint, "word": hint}
    (by_position,), by_name = through(function, value, word=value)
    for arrived in (by_position, by_name["word"]):
        assert arrived == value
        assert type(arrived) is (float if hint is float else type(value))


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, "7"), (int, 7.0), (int, True), (int, None), (str, 7), (str, b"x"), (str, UNIQUE),
        (str, date(2024, 1, 1)), (str, Decimal(1)), (str, timedelta(1)), (str, Colour.RED), (str | None, b"x"),
        (str | int, UNIQUE),
        (list[str], ["a", b"b"]), (dict[str, str], {"a": Decimal(1)}), (list[int], ["x"]), (bool, 1), (float, math.nan),
        (float | None, math.nan), (list[float | None], [math.inf]), (Point, Point(1.0, math.nan)), (float, "1.5"),
        (datetime, "soon"), (date, NOW), (Colour, "blue"), (Level, 9), (uuid.UUID, "x"),
        (Annotated[int, msgspec.Meta(gt=0)], 0), (tuple[int, str], (1,)), (Address, {"road": "x"}), (Address, None),
        (dict, {1: 2}), (dict[str, Any], {"a": (1,)}), (list, (1,)), (Any, {1}), (models.Model, 1j),
        (Speaks, b"x"),
        (str | datetime, NOW), (Address, Address("x", notes={"a": {1}})), (list[Speaks], [b"x"]),
    ],
    ids=repr,
)  # fmt: skip
def test_what_the_hint_does_not_take_is_refused_at_once(hint: Any, value: Any) -> None:
    def function(value): ...  # type: ignore[no-untyped-def]

    function.__annotations__ = {"value": hint}
    with pytest.raises(InvalidArguments, match=r"shop\.task: value"):
        codec(function).encode((value,), {})


def test_a_hint_may_make_another_sequence_or_a_date_of_it() -> None:
    def function(names: list[str], when: date, text: str) -> None: ...

    assert through(function, ("a", "b"), "2024-01-02", SafeString("x")) == ((["a", "b"], date(2024, 1, 2), "x"), {})


def test_hints_are_resolved_at_the_first_call() -> None:
    def forward(later: Later) -> Later: ...  # noqa: F821

    waiting = codec(forward)
    with pytest.raises(InvalidTask, match=r"shop\.task: .*parameter 'later'.*Later.*TYPE_CHECKING"):
        waiting.encode((1,), {})
    globals()["Later"] = int
    try:
        assert waiting.bind(*waiting.encode((1,), {})) == ((1,), {})
    finally:
        del globals()["Later"]


def test_the_hint_of_the_context_need_not_mean_anything() -> None:
    def informed(context: NobodyImportedThis, day: date) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    both = CallCodec("shop.informed", informed, takes_context=True)
    assert both.bind(*both.encode((date(2024, 1, 1),), {})) == ((date(2024, 1, 1),), {})


class Later:  # for the type checker; the test above removes and defines it at will
    pass


del Later


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hint", "value"), HINTED, ids=repr)
def test_a_result_comes_back_as_the_return_hint_says(hint: Any, value: Any) -> None:
    def function(): ...  # type: ignore[no-untyped-def]

    function.__annotations__ = {"return": hint}
    both = codec(function)
    assert both.decode_result(both.encode_result(value)) == value


def test_a_result_without_a_hint_is_what_json_makes_of_it() -> None:
    both = codec(bare)
    assert both.encode_result(None) is None
    assert both.decode_result(None) is None
    assert both.decode_result(both.encode_result((1, date(2024, 1, 1)))) == [1, "2024-01-01"]


@pytest.mark.parametrize("value", [object(), math.nan, [math.inf], {"a": Point(math.nan)}, "\ud800", 1j, {(1,): 2}])
def test_a_result_that_json_cannot_hold_is_an_error(value: Any) -> None:
    with pytest.raises(ResultError, match=r"result of shop\.task"):
        codec(bare).encode_result(value)


def test_a_result_without_end_is_an_error() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ResultError, match="nested too deeply"):
        codec(bare).encode_result(endless)


def test_a_result_that_does_not_fit_its_hint_is_an_error_where_it_is_read() -> None:
    def function() -> int: ...  # type: ignore[empty-body]

    with pytest.raises(ResultError, match="return hint"):
        codec(function).decode_result(b'"text"')
