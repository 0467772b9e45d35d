"""A token for whoever calls."""

import datetime
import re
from typing import Any, Dict, Optional, Union

from . import _answer, _daemon

Lifespan = Union[int, str, datetime.timedelta]


def get(
    lifespan: Optional[Lifespan] = None,
    *,
    for_user: Optional[str] = None,
    socket: Optional[_daemon.Path] = None,
    cluster: Optional[str] = None
) -> _answer.Token:
    """A token for the user who runs this process, from the slurm-tokend of this node.

    ``lifespan`` is how long it is to live: seconds, a ``timedelta``, or a word
    such as ``"90s"``, ``"12h"`` or ``"max"``, which is as long as the policy
    gives; not given, it is the policy's default. ``for_user`` asks for another
    user's, as the policy lets some services do. ``socket`` names the daemon's
    socket, ``cluster`` the daemon for that cluster; without either it is the
    one of ``SLURM_TOKEND_SOCKET``, else the node's own.

    Blocks for a moment, at most 15 s. Safe to call from many threads.

    Raises ``Refused`` where the daemon says no, ``NotReached`` where no daemon
    that may be trusted answers, ``BadAnswer`` where the answer is no good;
    ``ValueError`` or ``TypeError`` for arguments that make no sense.
    """
    line = request(lifespan, for_user)
    path = _daemon.choose(socket, cluster)
    token = _answer.read(_daemon.ask(path, line))
    if token is None:
        raise _answer.unusable("holds no token")
    _answer.check(token, for_user)
    return token


def request(lifespan: Optional[Lifespan], for_user: Optional[str]) -> bytes:
    """The line that asks for a token."""
    asked = {"v": 1, "op": "issue"}  # type: Dict[str, Any]
    if isinstance(lifespan, datetime.timedelta):
        asked["lifespan"] = int(lifespan.total_seconds())
    elif isinstance(lifespan, str):
        seconds = re.fullmatch("[0-9]{1,18}", lifespan)
        asked["lifespan"] = int(lifespan) if seconds else lifespan
    elif isinstance(lifespan, int) and not isinstance(lifespan, bool):
        asked["lifespan"] = lifespan
    elif lifespan is not None:
        kind = type(lifespan).__name__
        raise TypeError("lifespan is seconds, a str or a timedelta, not {}".format(kind))
    if for_user is not None:
        if not for_user:
            raise ValueError("for_user is empty")
        asked["for"] = for_user
    return _daemon.write(asked)
