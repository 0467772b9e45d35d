"""Why there is no token."""

from typing import Optional

# The most characters of one text; no sentence of the daemon's comes near.
MOST = 2000


def plain(text: str) -> str:
    """Others' text made fit for a terminal or a log: printable ASCII as it
    stands, every other character as an escape such as ``\\n`` or ``\\u202e``."""
    shown = "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape").decode("ascii") for c in text[:MOST]
    )
    return shown if len(text) <= MOST else shown + "..."


class Error(Exception):
    """Why there is no token; what all errors of this module have in common.

    ``code`` is for programs, ``message`` says what happened and ``help`` what
    to do about it, both fit for a terminal. ``retry_after``, where given, is in
    how many seconds it is worth asking again; ``max_lifespan``, where given,
    the longest life that the policy gives, in seconds.
    """

    def __init__(
        self,
        code: str,
        message: str,
        help: str = "",
        retry_after: Optional[int] = None,
        max_lifespan: Optional[int] = None,
    ) -> None:
        self.code = plain(code)
        self.message = plain(message)
        self.help = plain(help)
        self.retry_after = retry_after
        self.max_lifespan = max_lifespan
        # As arguments, so that an error survives pickling on its way from a
        # worker process.
        super().__init__(code, message, help, retry_after, max_lifespan)

    def __str__(self) -> str:
        return "\n".join(text for text in (self.message, self.help) if text)


class NotReached(Error):
    """No daemon that may be trusted took the question and answered it. Asking
    again later may help. Its ``code`` is ``not_reached``."""


class BadAnswer(Error):
    """The answer could not be read, or is not for whom was asked. Its ``code``
    is ``bad_answer``."""


class Refused(Error):
    """The daemon says no: its ``code`` is one of those in slurm-tokend(7), such
    as ``not_allowed``, ``lifespan_too_long`` or ``rate_limited``."""


class UnsafeURL(Error):
    """A token would go over the network in the clear. Its ``code`` is
    ``unsafe_url``."""
