"""Errors of this package."""


class TrainInputError(ValueError):
    """Bad input; the message says what, where, the likely mistake and what to run next."""
