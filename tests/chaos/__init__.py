"""Faults on purpose, and an account of every task afterwards.

    make chaos                                        every fault once: the table of docs/guarantees.md
    make chaos ARGS="--seeds 20 --minutes 30"         other moments, other victims, other loads
    make chaos ARGS="--faults storm --seeds 50"       a few faults at once, at random
    make chaos ARGS="--list"                          which there are

A run (run.py) starts a Redis, "machines" (each a `manage.py taskq_worker` behind a TCP proxy of its own) and a load of
many kinds of tasks, lets one fault of catalogue.py happen in the middle, waits until nothing is left to do, stops the
workers, and compares four books that know nothing of each other (audit.py): what producers were promised (load.py),
which task bodies ran (ledger.py), which outcomes were settled (watch.py), and the rows in the database.

No product code knows of this. What runs inside the workers comes with the tasks' module (injected.py).
"""
