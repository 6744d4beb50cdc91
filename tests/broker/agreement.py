"""Whether Redis holds what the model (model.py) holds, and whether the guarantees hold in Redis alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django_taskq.broker.keys import index_field
from django_taskq.core.message import Message
from django_taskq.core.outcome import decode_outcome
from tests.broker.helpers import Shard
from tests.broker.model import Model

Contents = dict[str, Any]


class Agreement:
    """Compares; fills in the ids of entries that only Redis knows; remembers every outcome it ever saw."""

    def __init__(self, shard: Shard, model: Model, queues: tuple[str, ...]) -> None:
        self.shard, self.keys, self.model, self.queues = shard, shard.keys, model, queues
        self.ended: dict[str, tuple[bytes, int]] = {}  # entry -> id and run

    def check(self, accepted: set[bytes]) -> None:
        """Raises AssertionError. `accepted`: the ids that must be somewhere, once."""
        found = self.shard.contents()
        self.lanes(found)
        self.schedules(found)
        self.outcomes(found)
        self.index(found)
        self.idempotency_keys(found)
        self.workers(found)
        self.nothing_lost_or_doubled(found, accepted)

    def lanes(self, found: Contents) -> None:
        lanes, prefix = self.model.lanes, self.keys.lane_prefix
        assert {name for name in found if name.startswith(prefix)} == {self.keys.lane(*lane) for lane in lanes}
        for lane, entries in lanes.items():
            in_redis = found[self.keys.lane(*lane)]
            for (name, _), entry in zip(in_redis, entries, strict=True):
                entry.name = entry.name or name.decode()
            assert [(name.decode(), fields[b"i"], fields.get(b"r"), fields.get(b"n")) for name, fields in in_redis] == [
                (entry.name, entry.message.id, *run_and_attempt(entry.message)) for entry in entries
            ]
        for entries, pending in zip(lanes.values(), self.shard.pending_of_lanes(lanes), strict=True):
            assert pending == {
                entry.name.encode(): (entry.holder.encode(), entry.deliveries) for entry in entries if entry.holder
            }
        for queue in self.queues:
            listed = [self.keys.lane(*lane).encode() for lane in self.model.lanes_of(queue)]
            assert list(found.get(self.keys.queue(queue).lanes, {}))[::-1] == listed
        assert found.get(self.keys.ready, set()) == {queue.encode() for queue, _, _ in self.model.listed}

    def schedules(self, found: Contents) -> None:
        for queue in self.queues:
            due = {id: each.due for id, each in self.model.schedule.items() if each.lane[0] == queue}
            assert found.get(self.keys.queue(queue).scheduled, {}) == due
            assert set(found.get(self.keys.queue(queue).messages, {})) == set(due)
            if due:  # early at worst
                assert found[self.keys.due][queue.encode()] <= min(due.values())

    def outcomes(self, found: Contents) -> None:
        stream, expected = found.get(self.keys.outcomes, []), self.model.outcomes[self.model.trimmed :]
        for (name, _), ended in zip(stream, expected, strict=True):
            ended.name = ended.name or name.decode()
        outcomes = [(name.decode(), decode_outcome(fields[b"o"])) for name, fields in stream]
        assert [(name, outcome.id, outcome.run, outcome.status) for name, outcome in outcomes] == [
            (ended.name, ended.id, ended.run, ended.status) for ended in expected
        ]
        self.ended |= {name: (outcome.id, outcome.run) for name, outcome in outcomes}
        lingering = int(found.get(self.keys.recorder, {}).get(b"lingering", 0))
        assert lingering == self.model.recorded - self.model.trimmed
        totals = {name.encode(): str(count).encode() for name, count in self.model.totals.items()}
        assert found.get(self.keys.totals, {}) == totals

    def index(self, found: Contents) -> None:
        places = self.model.index.items()
        assert found.get(self.keys.index, {}) == {
            index_field(id): place.location.removesuffix(" default:0").encode() for id, place in places
        }
        assert set(found.get(self.keys.cancels, {})) == self.model.cancels

    def idempotency_keys(self, found: Contents) -> None:
        keys = {self.keys.idempotency("t", key): each for key, each in self.model.keys.items()}
        assert {name: owner for name, owner in found.items() if ":idempotency:" in name} == {
            name: each.owner for name, each in keys.items()
        }
        ttls = self.shard.pipeline([("PTTL", name) for name in keys])
        assert [ttl > 0 for ttl in ttls] == [each.kept for each in keys.values()]

    def workers(self, found: Contents) -> None:
        beats = self.model.beats
        assert found.get(self.keys.workers, {}) == {name.encode(): count for name, count in beats.items()}
        for name in beats:
            assert [each.decode() for each in found.get(self.keys.inbox(name), [])] == self.model.inbox.get(name, [])

    def nothing_lost_or_doubled(self, found: Contents, accepted: set[bytes]) -> None:
        """Each accepted task is in exactly one place, and each of its runs ended at most once."""
        places: Counter[bytes] = Counter()
        for name, kept in found.items():
            if name.startswith(self.keys.lane_prefix):
                places.update(fields[b"i"] for _, fields in kept)
            elif name.startswith(self.keys.scheduled_prefix) and not name.endswith(":messages"):
                places.update(kept.keys())
        finished = {id for id, _ in self.ended.values()}
        for id in accepted:
            assert places[id] == 1 or (places[id] == 0 and id in finished)
        runs = Counter(run for run in self.ended.values() if run[0] in accepted)
        assert set(runs.values()) <= {1}


def run_and_attempt(sent: Message) -> tuple[bytes | None, bytes | None]:
    """Fields r and n, which are left out where they say nothing."""
    run, attempt = (str(value).encode() if value else None for value in (sent.run - 1, sent.attempt))
    return run, attempt
