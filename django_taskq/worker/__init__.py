"""The worker: a supervisor, its task processes, and one maintenance process. docs/internals.md walks through it."""
