"""Periodic tasks at work: rows that follow the code, ticks that are fired, and what people do about them."""
