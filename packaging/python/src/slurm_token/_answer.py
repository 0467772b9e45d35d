"""A token, and whether it is the one that was asked for."""

import base64
import os
import re
from typing import Any, Dict, List, Optional

from ._daemon import fields, load
from ._errors import BadAnswer

# The longest token, in bytes.
MAX_TOKEN = 12 * 1024
# RFC 7515 section 7.1: three parts of base64url without padding.
TOKEN = re.compile(r"[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
USER = re.compile(r"[!-~]+")


class Token:
    """A token, and what the daemon says of it.

    ``token`` is the token itself, ``user`` whom it speaks for, ``expires_at``
    the second since 1970 at which it expires, ``kid`` the name of the key that
    signed it and ``jti`` the token's own number. ``repr`` and ``str`` show all
    but the token.
    """

    __slots__ = ("token", "user", "expires_at", "kid", "jti")

    def __init__(self, token: str, user: str, expires_at: int, kid: str, jti: str) -> None:
        self.token = token
        self.user = user
        self.expires_at = expires_at
        self.kid = kid
        self.jti = jti

    def __repr__(self) -> str:
        shown = ("{}={!r}".format(name, getattr(self, name)) for name in self.__slots__[1:])
        return "Token({})".format(", ".join(shown))

    @property
    def headers(self) -> Dict[str, str]:
        """The headers that slurmrestd takes. Slurm 22.05 wants the user's name
        beside the token; later releases take it."""
        return {"X-SLURM-USER-NAME": self.user, "X-SLURM-USER-TOKEN": self.token}


def read(issued: Dict[str, Any]) -> Optional[Token]:
    """The token in an answer to ``issue``; None where there is none."""
    found = [issued.get(name) for name in Token.__slots__]  # type: List[Any]
    for name, value in zip(Token.__slots__, found):
        if type(value) is not (int if name == "expires_at" else str):
            return None
    return Token(*found)


def check(token: Token, for_user: Optional[str]) -> None:
    """Accepts a token of the user that was asked for and no other.

    The token must be one by its form, so that an HTTP header can hold it, and
    its ``sun`` must be the user that the answer names.
    """
    if not USER.fullmatch(token.user):
        raise unusable('names the user "{}", which is no user name'.format(token.user))
    if for_user is not None:
        if token.user != for_user:
            raise unusable("is for {}, and {} was asked for".format(token.user, for_user))
    elif _is_another(token.user, os.geteuid()):
        raise unusable(
            "is for {}, and by /etc/passwd that's not your uid {}; if you are {}, ask with "
            "for_user".format(token.user, os.geteuid(), token.user)
        )
    speaker = _speaker(token.token)
    if speaker is None:
        raise unusable("holds no token")
    if speaker != token.user:
        raise unusable("is for {}, and its token for {}".format(token.user, speaker))


def unusable(what: str) -> BadAnswer:
    return BadAnswer(
        "bad_answer",
        "the daemon's answer {}".format(what),
        "It was not used: see that this is the daemon's socket, and tell your administrator.",
    )


def _is_another(user: str, uid: int) -> bool:
    """Does the local account file say that this uid has another name, or this
    name another uid? An account of a directory service is not in it, and that
    service might not answer: there the daemon's word stands."""
    try:
        with open("/etc/passwd", "rb") as passwd:
            accounts = [line.split(b":") for line in passwd]
    except OSError:
        return False
    named = [(a[0].decode("utf-8", "replace"), a[2]) for a in accounts if len(a) > 2]
    local = [(name, int(digits)) for name, digits in named if digits.isdigit()]
    for name, own in local:
        if name == user:
            return own != uid
    return any(own == uid for _, own in local)


def _speaker(token: str) -> Optional[str]:
    """The ``sun`` of a well-formed token. The signature is Slurm's to check."""
    parts = TOKEN.fullmatch(token)
    if parts is None or len(token) > MAX_TOKEN:
        return None
    try:
        claims = base64.urlsafe_b64decode(parts.group(1) + "==")
    except ValueError:
        return None
    pairs = load(claims)
    # The one claim that says whom a token speaks for; given twice, it's none.
    found = [v for k, v in pairs if k == "sun"] if isinstance(pairs, tuple) else []
    return found[0] if len(found) == 1 and isinstance(found[0], str) else None
