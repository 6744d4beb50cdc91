"""Pure logic: no Django, no Redis; the time is an argument."""
