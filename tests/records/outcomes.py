"""Outcomes to record, and a stream to put them on, as the settling scripts do."""

from __future__ import annotations

from typing import Any

from django_taskq.broker import Broker
from django_taskq.broker.connection import retrying
from django_taskq.broker.keys import index_field
from django_taskq.core.fields import pack_fields
from django_taskq.core.ids import new_id
from django_taskq.core.message import Attempt, Message
from django_taskq.core.outcome import Outcome, encode_outcome

NOW = 1_760_000_000.0  # epoch seconds
TRACEBACK = """Traceback (most recent call last):
  File "/srv/releases/41/shop/mail.py", line 12, in send
    connection.send(message)
  File "/usr/lib/python3.11/smtplib.py", line 805, in sendmail
    raise SMTPServerDisconnected
smtplib.SMTPServerDisconnected: SMTP server temporarily unavailable
"""


def succeeded(**values: Any) -> Outcome:
    defaults: dict[str, Any] = {
        "id": new_id(), "run": 1, "status": "succeeded", "recorded": True, "result": b'"sent"', "task": "shop.send",
        "queue": "default", "args": b"[7]", "kwargs": b'{"template":"hi"}', "attempts": 1, "enqueued": NOW,
        "first_started": NOW + 0.5, "started": NOW + 0.5, "finished": NOW + 2, "worker": "host:1:abcd", "wait": 0.5,
    }  # fmt: skip
    return Outcome(**{**defaults, **values})


def failed(**values: Any) -> Outcome:
    id = values.pop("id", None) or new_id()
    message = Message(id, "shop.send", b"[7]", b'{"template":"hi"}', run=values.get("run", 1))
    defaults: dict[str, Any] = {
        "id": id, "status": "failed", "result": None, "attempts": 2, "error_class": "smtplib.SMTPServerDisconnected",
        "error_message": "SMTP server temporarily unavailable", "traceback": TRACEBACK, "reason": "failed",
        "history": [Attempt(1, NOW + 0.1, NOW + 0.2, "host:1:abcd", "retry", "builtins.OSError", "first", TRACEBACK)],
        "raw": pack_fields(message.fields()),
    }  # fmt: skip
    return succeeded(**{**defaults, **values})


def entries(*outcomes: Outcome, at: float = NOW) -> list[tuple[str, Outcome]]:
    """With the ids their stream entries would have."""
    return [(f"{int(at * 1000)}-{number}", outcome) for number, outcome in enumerate(outcomes)]


def settle(broker: Broker, *outcomes: Outcome) -> list[str]:
    """Puts outcomes on the stream and in the index, as broker/lua/lib/finish.lua does; the entries' ids."""
    names = []
    for outcome in outcomes:
        blob = encode_outcome(outcome)
        add = ("XADD", broker.keys.outcomes, "*", "i", outcome.id, "o", blob)
        entry = retrying(lambda add=add: broker.connections.execute(*add), 5.0).decode()
        broker.connections.execute("HSET", broker.keys.index, index_field(outcome.id), f"o{entry}")
        names.append(entry)
    return names
