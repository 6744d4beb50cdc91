"""`taskq_status --watch` on a terminal, with the extra `watch` (Textual)."""
