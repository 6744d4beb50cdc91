import json
import time

import pytest

from django_taskq.redaction import REDACTED, UNREADABLE, is_secret, redact_json, redact_text

SECRET = """password Password PASSWORD user_password userPassword password2 passwd token accessToken access-token tokens
secret client_secret authorization Authorization X-API-Key api_key apiKey APIKey apikey card card_number cardNumber
idCARD"""
HARMLESS = "discard wildcard postcard tokenizer secretary cardinal api key keys capital email"


@pytest.mark.parametrize("key", SECRET.split())
def test_a_key_that_contains_a_secret_word_is_one(key: str) -> None:
    assert is_secret(key)


@pytest.mark.parametrize("key", HARMLESS.split())
def test_a_word_that_merely_holds_the_letters_is_none(key: str) -> None:
    assert not is_secret(key)


def test_values_are_replaced_at_any_depth() -> None:
    raw = json.dumps({"a": [{"b": {"apiKey": "k", "to": "x"}}], "token": {"inner": [1, 2]}}).encode()
    assert json.loads(redact_json(raw)) == {"a": [{"b": {"apiKey": REDACTED, "to": "x"}}], "token": REDACTED}


def test_json_without_a_secret_comes_back_byte_for_byte() -> None:
    raw = b'{ "n" : 1.10, "discard": 123456789012345678901234567890 }'
    assert redact_json(raw) is raw


def test_a_key_spelt_with_escapes_is_seen() -> None:
    assert b"hunter2" not in redact_json(b'{"p\\u0061ssword": "hunter2"}')


def test_a_secret_in_json_that_cannot_be_read_is_hidden_whole() -> None:
    for raw in (
        b'{"password": "hunter2"',
        b"[" * 20_000 + b'{"password":"hunter2"}' + b"]" * 20_000,
        b'{"token":"\xff"}',
    ):
        assert redact_json(raw) == UNREADABLE.encode()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("login with password=hunter2, then go", "login with password=[redacted], then go"),
        ('{"apiKey": "a b\\"c", "to": "x"}', '{"apiKey": [redacted], "to": "x"}'),
        ("Authorization: Bearer abc.def", "Authorization: [redacted]"),
        ("{'user_token': 'a, b'}", "{'user_token': [redacted]}"),
        ("GET https://x/?a=1&token=abc&b=2", "GET https://x/?a=1&token=[redacted]&b=2"),
        ("redis://:hunter2@queue:6379/0", "redis://:[redacted]@queue:6379/0"),
        ("tokenizer=x?password=y", "tokenizer=x?password=[redacted]"),
        ("discard=7 tokens are left", "discard=7 tokens are left"),
    ],
)
def test_a_line_of_text_is_redacted_by_the_same_words(line: str, shown: str) -> None:
    assert redact_text(line) == shown


@pytest.mark.parametrize(
    "line", ["token" * 400, "a" * 2000 + " token", "token=" * 333, '"' * 1999 + "token", ":// token" * 200]
)
def test_a_hostile_line_costs_little(line: str) -> None:
    started = time.process_time()
    redact_text(line)
    assert time.process_time() - started < 0.05
