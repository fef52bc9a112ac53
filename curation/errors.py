"""The one root of errors that a person can meet."""


class HeartwoodError(Exception):
    """Something the user can put right.

    ``str(error)`` names what is wrong: file, row or key, the value found and what is allowed.
    ``hint`` is the next thing to do. Stages and commands print both, without a traceback, and exit 1.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint
