"""Tokens that are renewed by themselves, for those who call slurmrestd."""

import functools
import ipaddress
import json
import os
import re
import threading
import time
import urllib.parse
import urllib.request
from typing import Any, Dict, Iterable, NamedTuple, Optional

from . import _daemon, _get
from ._answer import Token
from ._errors import Error, UnsafeURL

# How much of a token's life passes before it's renewed.
SHARE = 0.8
# How long, in seconds, the old token serves before a renewal that failed is
# tried again.
PAUSE = 5.0
# A token younger than this, in seconds, isn't replaced when Slurm refuses it:
# the next would be refused like it.
FRESH = 1.0
# The longest body, in bytes, that is looked at for Slurm's word on a token.
MAX_ERROR = 64 * 1024

# Printable ASCII without the backslash, which some take for a slash.
URL = re.compile(r"[!-\[\]-~]+")
# A redirect that every reader of URLs takes for one on the same server.
SAME_SERVER = re.compile(r"/(?![/\\])[!-~]*")
HEADERS = ("X-SLURM-USER-NAME", "X-SLURM-USER-TOKEN")


class _Held(NamedTuple):
    """A token, and when it came."""

    token: Token
    # By the wall clock, as expires_at is, and by the one that never jumps.
    since: float
    arrived: float
    # The user who got it: a process may become another.
    uid: int

    def is_young(self, now: float) -> bool:
        life = self.token.expires_at - self.since
        return self.since <= now < self.since + SHARE * life and self.uid == os.geteuid()

    def is_valid(self, now: float) -> bool:
        return now < self.token.expires_at and self.uid == os.geteuid()


class Keeper:
    """One token for many calls and threads, renewed at 80 % of its life."""

    def __init__(
        self,
        lifespan: Optional[_get.Lifespan],
        for_user: Optional[str],
        socket: Optional[_daemon.Path],
        cluster: Optional[str],
    ) -> None:
        # What makes no sense is said now, not in the middle of a call.
        _get.request(lifespan, for_user)
        _daemon.choose(socket, cluster)
        self._fetch = functools.partial(
            _get.get, lifespan, for_user=for_user, socket=socket, cluster=cluster
        )
        self._held = None  # type: Optional[_Held]
        self._not_before = 0.0
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def ready(self) -> Optional[Token]:
        """The token, if there is one that needs no renewal: never waits."""
        held = self._held
        return held.token if held is not None and held.is_young(time.time()) else None

    def token(self) -> Token:
        """The token, renewed if it's time. Where that fails, the old one serves
        until it expires."""
        self._mind_forks()
        token = self.ready()
        if token is not None:
            return token
        held = self._held
        # One renews; the others don't wait while the old token is still good.
        valid = held is not None and held.is_valid(time.time())
        if not self._lock.acquire(blocking=not valid):
            assert held is not None
            return held.token
        try:
            token = self.ready()
            if token is not None:
                return token
            held = self._held
            valid = held is not None and held.is_valid(time.time())
            if not valid or time.monotonic() >= self._not_before:
                held = self._renew(held if valid else None)
            assert held is not None
            return held.token
        finally:
            self._lock.release()

    def another(self, refused: Token) -> Optional[Token]:
        """A token in place of one that Slurm refused; None where no other would
        fare better, or none is to be had."""
        self._mind_forks()
        with self._lock:
            held = self._held
            if held is not None and held.token is not refused:
                return held.token
            if held is not None and time.monotonic() - held.arrived < FRESH:
                return None
            try:
                return self._renew(None).token
            except Error:
                return None

    def _renew(self, otherwise: Optional[_Held]) -> _Held:
        since = time.time()
        try:
            token = self._fetch()
        except Error as error:
            if otherwise is None:
                raise
            self._not_before = time.monotonic() + max(error.retry_after or 0, PAUSE)
            return otherwise
        self._held = _Held(token, since, time.monotonic(), os.geteuid())
        return self._held

    def _mind_forks(self) -> None:
        # A fork may have copied a lock that nobody will release.
        if self._pid != os.getpid():
            self._lock = threading.Lock()
            self._pid = os.getpid()


class Base:
    """What is common to the classes for requests and for httpx."""

    def __init__(
        self,
        lifespan: Optional[_get.Lifespan] = None,
        *,
        for_user: Optional[str] = None,
        socket: Optional[_daemon.Path] = None,
        cluster: Optional[str] = None,
        allow_http: bool = False
    ) -> None:
        self._keeper = Keeper(lifespan, for_user, socket, cluster)
        self._allow_http = allow_http

    def headers(self, url: str) -> Dict[str, str]:
        """The headers for a call of ``url`` by any other library.

        See to it that they follow no redirect to another server: urllib has
        ``Request.add_unredirected_header`` for that.
        """
        if not URL.fullmatch(url):
            raise ValueError("this is no URL: {!r}".format(url))
        parts = urllib.parse.urlsplit(url)
        self._check(parts.scheme, parts.hostname or "")
        return self._keeper.token().headers

    def _check(self, scheme: str, host: str) -> None:
        """Lets a token go only where nobody can read it on its way."""
        if self._allow_http or scheme == "https" or scheme.endswith("+unix"):
            return
        if scheme != "http" or not _is_loopback(host):
            raise UnsafeURL(
                "unsafe_url",
                "the token would go over the network in the clear, by {} to {}".format(
                    scheme, host
                ),
                "Nothing was sent: use https, or allow_http=True if you know that network.",
            )
        proxies = urllib.request.getproxies()
        if ("http" in proxies or "all" in proxies) and not urllib.request.proxy_bypass(host):
            raise UnsafeURL(
                "unsafe_url",
                "the token would go in the clear to the proxy that the environment names",
                "Nothing was sent: set NO_PROXY={}.".format(host),
            )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_be_refusal(status: int) -> bool:
    """May this be what Slurm answers to a token that has expired."""
    return status in (401, 500, 511)


def is_refusal(status: int, body: bytes) -> bool:
    """Is this what Slurm answers to a token that has expired.

    Slurm 26.05 says 511. Slurm 22.05 says 500, as it does of all that goes
    wrong; its body has the error of slurmctld that refuses to talk: none in
    particular, or no answer at all. 401 is of a front that checks tokens.
    """
    if status != 500:
        return may_be_refusal(status)
    if len(body) > MAX_ERROR:
        return False
    try:
        errors = json.loads(body.decode("utf-8"))["errors"]
        return any(_says_refused(error) for error in errors)
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return False


def _says_refused(error: Dict[str, Any]) -> bool:
    # The name of the number differs from path to path.
    numbers = (error.get(name) for name in ("error_number", "error_code", "errno"))
    # Unspecified error; protocol authentication error; zero bytes were
    # transmitted or received.
    return any(number in (-1, 1007, 5005) for number in numbers)


class _Sent(NamedTuple):
    """What a call of requests was sent with."""

    token: Token
    # Scheme, host and port, as a URL begins.
    server: str
    # Where its body began, if that is a file.
    position: Optional[int]


class Auth(Base):
    """Authenticates calls of slurmrestd that are made with requests.

        session = requests.Session()
        session.auth = slurm_token.Auth(lifespan="10m")

    It gets a token when the first call needs one and renews it at 80 % of its
    life. A call that Slurm refuses as it refuses an expired token is sent once
    more with a new one, unless its body can be read only once. One object
    serves many sessions and threads.

    The token goes by https, by plain http to this machine, or through a Unix
    socket; anywhere else only with ``allow_http``. It follows no redirect to
    another server, and no answer's ``request`` shows it.

    The other arguments are those of ``slurm_token.get``.
    """

    def __call__(self, request: Any) -> Any:
        """Adds the headers to a prepared request, as ``requests.auth.AuthBase``
        does. Raises what ``slurm_token.get`` raises, and ``UnsafeURL``."""
        if not hasattr(request, "register_hook"):
            raise TypeError("this Auth is for requests; httpx has slurm_token.httpx.Auth")
        parts = urllib.parse.urlsplit(request.url)
        self._check(parts.scheme, parts.hostname or "")
        token = self._keeper.token()
        request.headers.update(token.headers)
        try:
            position = request.body.tell()
        except (AttributeError, OSError):
            position = None
        sent = _Sent(token, _server(request.url), position)
        request.register_hook("response", functools.partial(self._answered, sent))
        return request

    def _answered(self, sent: _Sent, response: Any, **kwargs: Any) -> Any:
        first = response.request
        # A redirect has led to another server, without the headers.
        if _server(first.url) != sent.server:
            return response
        if may_be_refusal(response.status_code) and is_refusal(
            response.status_code, response.content
        ):
            response = self._again(sent, response, kwargs)
        stays = _redirects_within(response, sent.server)
        for request in (first, response.request):
            # requests copies these headers to wherever a redirect leads.
            if not stays:
                _strip(request.headers)
        return response

    def _again(self, sent: _Sent, response: Any, kwargs: Dict[str, Any]) -> Any:
        request = response.request.copy()
        if request.body is not None and not isinstance(request.body, (bytes, str)):
            if sent.position is None:
                return response
            request.body.seek(sent.position)
        token = self._keeper.another(sent.token)
        if token is None:
            return response
        # Frees the connection for the second call.
        response.close()
        request.headers.update(token.headers)
        answer = response.connection.send(request, **kwargs)
        answer.history.append(response)
        answer.request = request
        return answer


def _server(url: str) -> str:
    # requests has brought it into its usual form.
    parts = urllib.parse.urlsplit(url)
    return "{}://{}".format(parts.scheme, parts.netloc)


def _redirects_within(response: Any, server: str) -> bool:
    """Does the answer redirect to the same server, in a form that leaves no
    doubt of it?"""
    if not response.is_redirect:
        return False
    target = response.headers["location"]
    if target.startswith(server):
        target = target[len(server) :]
    return SAME_SERVER.fullmatch(target) is not None


def _strip(headers: Any) -> None:
    for name in HEADERS:
        headers.pop(name, None)
