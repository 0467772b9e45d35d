"""Short-lived Slurm tokens from the slurm-tokend of this node.

    >>> import slurm_token
    >>> token = slurm_token.get(lifespan="10m")
    >>> token
    Token(user='alice', expires_at=1795305600, kid='login1-2026-11', jti='9f1c...')

``token.token`` is the token itself, and ``token.headers`` what slurmrestd takes.
Programs that call slurmrestd for longer than one token lives use ``Auth`` with
requests, or ``slurm_token.httpx.Auth`` with httpx: it renews the token by itself.

    >>> requests.get("http://localhost:6820/slurm/v0.0.38/jobs", auth=slurm_token.Auth())

Nothing here needs more than the standard library.
"""

from ._answer import Token
from ._auth import Auth
from ._errors import BadAnswer, Error, NotReached, Refused, UnsafeURL
from ._get import Lifespan, get

__all__ = [
    "Auth",
    "BadAnswer",
    "Error",
    "Lifespan",
    "NotReached",
    "Refused",
    "Token",
    "UnsafeURL",
    "get",
]
