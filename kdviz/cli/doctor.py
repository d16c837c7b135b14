"""Placeholder until its owner writes it."""


def command() -> None:
    """Not yet."""
    raise NotImplementedError
