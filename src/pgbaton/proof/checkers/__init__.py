"""Checkers: pure functions from what a trial left behind to a conclusion; adding one is a line in CHECKERS."""
