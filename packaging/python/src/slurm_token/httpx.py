"""For those who call slurmrestd with httpx, which this module needs."""

from typing import Any, AsyncGenerator, Generator, Optional, Tuple

import httpx

from ._answer import Token
from ._auth import HEADERS, Base, is_refusal, may_be_refusal

__all__ = ["Auth"]

# Scheme, host and port.
_Server = Tuple[bytes, bytes, Optional[int]]


class Auth(Base, httpx.Auth):
    """Authenticates calls of slurmrestd that are made with httpx.

        client = httpx.Client(auth=slurm_token.httpx.Auth(lifespan="10m"))

    For ``httpx.AsyncClient`` too: it never blocks the event loop. It gets a
    token when the first call needs one and renews it at 80 % of its life. A
    call that Slurm refuses as it refuses an expired token is sent once more
    with a new one; its body is held in memory for that. One object serves many
    clients and threads.

    The token goes by https or by plain http to this machine; anywhere else only
    with ``allow_http``. It follows no redirect to another server. It is added
    to a request on its way out, where httpx's own transports report to the
    extension ``trace``, so no ``response.request`` shows it.

    The other arguments are those of ``slurm_token.get``.
    """

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        self._check(request.url.scheme, request.url.host)
        request.read()
        signer = _Signer(request, self._keeper.token())
        request.extensions = dict(request.extensions, trace=signer.trace)
        response = yield request
        if signer.may_be_refused(response):
            if is_refusal(response.status_code, response.read()):
                token = self._keeper.another(signer.token)
                if token is not None:
                    signer.token = token
                    yield request

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        # httpx itself stands on it.
        from anyio import to_thread

        self._check(request.url.scheme, request.url.host)
        await request.aread()
        token = self._keeper.ready()
        if token is None:
            token = await to_thread.run_sync(self._keeper.token)
        signer = _Signer(request, token)
        request.extensions = dict(request.extensions, trace=signer.atrace)
        response = yield request
        if signer.may_be_refused(response):
            if is_refusal(response.status_code, await response.aread()):
                token = await to_thread.run_sync(self._keeper.another, signer.token)
                if token is not None:
                    signer.token = token
                    yield request


class _Signer:
    """Adds the headers to what goes to one server and to nothing else.

    httpx follows redirects below its auth flow, and keeps every header but its
    own. So the request that it sees has none: they are added when they are sent.
    """

    def __init__(self, request: httpx.Request, token: Token) -> None:
        self.token = token
        self._server = _server(request.url)
        # Somebody else's, to be called after us.
        self._trace = request.extensions.get("trace")
        self._signed = False

    def trace(self, event: str, info: Any) -> None:
        self._sign(event, info)
        if self._trace is not None:
            self._trace(event, info)

    async def atrace(self, event: str, info: Any) -> None:
        self._sign(event, info)
        if self._trace is not None:
            await self._trace(event, info)

    def may_be_refused(self, response: httpx.Response) -> bool:
        """May this answer be about the token, and not one of another server
        that a redirect has led to."""
        if not may_be_refusal(response.status_code):
            return False
        if not self._signed:
            # Somebody else's transport.
            raise RuntimeError(
                "this transport has no trace extension, so no token was sent: give it the headers "
                "of Auth.headers(url)"
            )
        return _server(response.request.url) == self._server

    def _sign(self, event: str, info: Any) -> None:
        if not event.endswith(".send_request_headers.started"):
            return
        sent = info["request"]
        # Not what a proxy is told first.
        if sent.method == b"CONNECT" or _target(sent.url) != self._server:
            return
        ours = [name.lower().encode("ascii") for name in HEADERS]
        headers = [(name, value) for name, value in sent.headers if name.lower() not in ours]
        for name, value in self.token.headers.items():
            headers.append((name.encode("ascii"), value.encode("ascii")))
        sent.headers = headers
        self._signed = True


def _server(url: httpx.URL) -> _Server:
    return url.raw_scheme, url.raw_host, url.port


def _target(url: Any) -> _Server:
    # A proxy for plain http is sent the whole URL.
    if url.target.startswith(b"http"):
        return _server(httpx.URL(url.target.decode("ascii")))
    return url.scheme, url.host, url.port
