"""This process as a parent: starting programs that are bound to it."""
