"""`python -m tests.outbox.writer SEED`: transactions with calls in them, some rolled back, until it is ended.

Prints each id before its transaction ends, and again with `committed` once it has been committed.
"""

from __future__ import annotations

import random
import sys
import time

import django


class Undo(Exception):
    """Rolls back."""


def main(seed: int) -> None:
    django.setup()
    from django.db import transaction

    from tests.outbox.tasks import add

    chance = random.Random(seed)
    while True:
        ids: list[str] = []
        try:
            with transaction.atomic():
                ids += [add.delay(number).id for number in range(chance.randint(1, 3))]
                if chance.random() < 0.2:
                    ids += [handle.id for handle in add.delay_many([((1,), {})] * chance.randint(1, 20))]
                say("begun", ids)
                if chance.random() < 0.3:
                    raise Undo
        except Undo:
            say("undone", ids)
        else:
            say("committed", ids)
        time.sleep(chance.random() * 0.02)


def say(word: str, ids: list[str]) -> None:
    """In one write: whoever is killed in the middle leaves no half of a line."""
    sys.stdout.write(f"{word} {' '.join(ids)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
