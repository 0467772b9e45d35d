"""One question to the daemon, one answer: protocol version 1, slurm-tokend(7)."""

import errno
import json
import os
import pathlib
import re
import socket as sockets
import struct
import time
from typing import Any, Dict, List, Optional, Union

from ._errors import BadAnswer, Error, NotReached, Refused

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]

DEFAULT_SOCKET = "/run/slurm-tokend/slurm-tokend.sock"
# The longest request and the longest answer, in bytes, without their newline.
MAX_REQUEST = 16 * 1024
MAX_ANSWER = 64 * 1024
# How long the daemon may take in all, in seconds. It waits up to 5 s for an
# account and up to 10 s for its own end.
PATIENCE = 15.0
# How long a daemon that went away may take to be back, in seconds.
RESTART = 2.0
# The uid that stands for all those that this user namespace doesn't know.
OVERFLOW_UID = 65534
# The uid of a peer that there isn't.
NO_UID = 2 ** 32 - 1

CLUSTER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
LATER = "Try again in a while, and tell your administrator if this lasts."


def choose(socket: Optional[Path], cluster: Optional[str]) -> str:
    """The path of the socket to ask: the one that is named, else the one of
    ``SLURM_TOKEND_SOCKET``, else the node's own.

    The environment counts only where real and effective user and group are the
    same: otherwise somebody else's would decide.
    """
    if socket is not None and cluster is not None:
        raise ValueError("socket and cluster exclude each other")
    if cluster is not None:
        if not CLUSTER.fullmatch(cluster):
            raise ValueError("{!r} is not the name of a cluster".format(cluster))
        return "/run/slurm-tokend-{}/slurm-tokend.sock".format(cluster)
    if socket is not None:
        path = os.fsdecode(socket)
        # The kernel would take it for no path at all.
        if not path or "\0" in path:
            raise ValueError("{!r} is not the path of a socket".format(path))
        return path
    named = os.environ.get("SLURM_TOKEND_SOCKET")
    own = os.getuid() == os.geteuid() and os.getgid() == os.getegid()
    return named if named and own else DEFAULT_SOCKET


def write(request: Dict[str, Any]) -> bytes:
    """The line of a request."""
    line = json.dumps(request, separators=(",", ":")).encode("ascii") + b"\n"
    if len(line) > MAX_REQUEST + 1:
        raise ValueError("what is asked for is longer than {} bytes".format(MAX_REQUEST))
    return line


def ask(path: str, line: bytes, patience: float = PATIENCE) -> Dict[str, Any]:
    """The ``ok`` of the daemon's answer.

    Asks once; once more if the daemon goes away without an answer, as it does
    when it's restarted. Asking twice does no harm: a token that nobody got
    expires unused.
    """
    deadline = time.monotonic() + patience
    try:
        return _attempt(path, line, deadline, None)
    except _Closed:
        pass
    except Refused as refused:
        if refused.code != "shutting_down":
            raise
    try:
        return _attempt(path, line, deadline, time.monotonic() + RESTART)
    except _Closed:
        what = "the daemon closed the connection twice without an answer"
    raise _unreached(path, what, LATER)


class _Closed(Exception):
    """The connection was closed, before the answer or in the middle of it."""


def _unreached(path: str, what: str, remedy: str) -> NotReached:
    return NotReached("not_reached", "{}: {}".format(path, what), remedy)


def _bad_answer(path: str, what: str) -> BadAnswer:
    remedy = "See that this is the daemon's socket, and that this module is of its release."
    return BadAnswer("bad_answer", "{}: {}".format(path, what), remedy)


def _attempt(
    path: str, line: bytes, deadline: float, restart_until: Optional[float]
) -> Dict[str, Any]:
    with _connect(path, deadline, restart_until) as connection:
        answer = parse(_exchange(connection, path, line, deadline))
    if answer is None:
        raise _bad_answer(path, "the answer is not one of protocol version 1")
    if isinstance(answer, Refused):
        raise answer
    return answer


def _connect(path: str, deadline: float, restart_until: Optional[float]) -> sockets.socket:
    """A connection to a daemon that may be trusted."""
    while True:
        connection = sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)
        try:
            listener = _listener(connection, path, deadline)
            if listener != NO_UID:
                _check_listener(path, listener)
                return connection
            # A signal came while the kernel waited for room in the listener's
            # queue, and Python takes that for a connection.
            connection.close()
        except OSError as error:
            connection.close()
            away = error.errno in (errno.ENOENT, errno.ECONNREFUSED)
            if not (away and restart_until and time.monotonic() < restart_until):
                raise _why_unreached(path, error) from None
            time.sleep(0.02)
        except Error:
            connection.close()
            raise


def _listener(connection: sockets.socket, path: str, deadline: float) -> int:
    """Connects; the uid of who listens.

    The kernel waits for room in the listener's queue until ``deadline``:
    EAGAIN is what it says when there was none.
    """
    # Zero would mean no limit at all.
    left = max(deadline - time.monotonic(), 0.001)
    limit = struct.pack("@ll", int(left), int(left % 1 * 1000000))
    connection.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDTIMEO, limit)
    connection.connect(path)
    credentials = connection.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, 12)
    _pid, uid, _gid = struct.unpack("@iII", credentials)
    return int(uid)


def _why_unreached(path: str, error: OSError) -> NotReached:
    if error.errno == errno.ENOENT:
        return _unreached(path, "there is no such socket: no daemon runs here", _start(path))
    if error.errno == errno.ECONNREFUSED:
        return _unreached(path, "no daemon listens on this socket", _start(path))
    if error.errno == errno.EAGAIN:
        what = "the daemon takes no connection: too many wait for it"
        return _unreached(path, what, LATER)
    if error.errno == errno.EACCES:
        remedy = (
            "Ask your administrator: it must be writable by everybody, in a directory with mode "
            "0755."
        )
        return _unreached(path, "you may not connect to this socket", remedy)
    if error.errno is None or error.errno == errno.ENAMETOOLONG:
        # Python itself looks at the length, and gives no number.
        what = "the path of a socket has at most 107 bytes"
        return _unreached(path, what, "Name a shorter one.")
    return _unreached(path, str(error.strerror), "See whether this is the daemon's socket.")


def _start(path: str) -> str:
    """How to get the daemon of this socket to run."""
    cluster = re.fullmatch(r"/run/slurm-tokend-([^/]+)/slurm-tokend\.sock", path)
    if cluster:
        unit = "slurm-tokend@{}.socket".format(cluster.group(1))
    elif path == DEFAULT_SOCKET:
        unit = "slurm-tokend.socket"
    else:
        return "Start the daemon, or name the socket that it listens on."
    return (
        "Ask your administrator to start it (systemctl start {}), or name another socket with "
        "socket= or SLURM_TOKEND_SOCKET.".format(unit)
    )


def _check_listener(path: str, listener: int) -> None:
    """Refuses a listener that could be anybody's: before a word is sent to it.

    The kernel keeps who called listen(2). With socket activation that is
    systemd, hence root; a daemon that binds its socket itself is root or its
    own service user, to whom root gave the socket's directory.
    """
    if listener == 0:
        return
    if listener == OVERFLOW_UID:
        raise _unreached(
            path,
            "the listener is uid {}, who in a user namespace may be anybody".format(listener),
            "Nothing was sent: get the token outside the container and hand it in by the "
            "environment.",
        )
    if listener != os.geteuid() and listener != _owner_by_root(path):
        raise _unreached(
            path,
            "the listener is uid {}, who is neither root nor you nor the owner of a directory "
            "that root made for this socket".format(listener),
            "Nothing was sent: tell your administrator, or name the daemon's socket with socket=.",
        )


def _owner_by_root(path: str) -> Optional[int]:
    """The owner of the directory that the socket is in, if only root can have
    made it so: no directory above it is another's or can be written by others."""
    try:
        directory = pathlib.Path(path).resolve(strict=True).parent
        seen = directory.stat()
        above = [parent.stat() for parent in directory.parents]
    except (OSError, RuntimeError):
        return None

    def closed(one: os.stat_result) -> bool:
        return one.st_mode & 0o022 == 0

    if closed(seen) and all(closed(one) and one.st_uid == 0 for one in above):
        return seen.st_uid
    return None


def _exchange(connection: sockets.socket, path: str, line: bytes, deadline: float) -> bytes:
    """The answer's line, without its newline."""
    answer = bytearray()
    try:
        # A daemon that is busy answers before it reads, and closes: the answer
        # is there all the same. It's told that nothing more follows.
        try:
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            connection.sendall(line)
            connection.shutdown(sockets.SHUT_WR)
        except ConnectionError:
            pass
        except OSError as error:
            # shutdown(2) where the other end has closed.
            if error.errno != errno.ENOTCONN:
                raise
        while len(answer) <= MAX_ANSWER:
            left = deadline - time.monotonic()
            if left <= 0:
                raise sockets.timeout
            connection.settimeout(left)
            held = len(answer)
            answer += connection.recv(MAX_ANSWER + 1 - held)
            if len(answer) == held:
                raise _Closed
            end = answer.find(b"\n")
            if end >= 0:
                return bytes(answer[:end])
        what = "the answer is longer than {} bytes".format(MAX_ANSWER)
    except sockets.timeout:
        raise _unreached(path, "the daemon gave no answer in time", LATER) from None
    except ConnectionError:
        raise _Closed from None
    except OSError as error:
        what = "can't talk to the daemon: {}".format(error.strerror)
        raise _unreached(path, what, LATER) from None
    finally:
        # Half a token stays in no frame that a traceback shows.
        del answer[:]
    raise _bad_answer(path, what)


# What follows returns None for what it can't read, and never raises: the error
# that json raises holds all of what it was given, and a token with it.


def load(text: bytes) -> Any:
    """The value of a JSON text, its objects as tuples of pairs."""
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=tuple)
    except (ValueError, RecursionError):
        return None


def fields(value: Any) -> Optional[Dict[str, Any]]:
    """The fields of an object from ``load``, if none is there twice."""
    if not isinstance(value, tuple):
        return None
    found = dict(value)
    return found if len(found) == len(value) else None


def parse(line: bytes) -> Union[Dict[str, Any], Refused, None]:
    """What an answer says: the fields of its ``ok``, or its ``error``."""
    answer = fields(load(line))
    if answer is None or answer.get("v") != 1 or isinstance(answer["v"], (bool, float)):
        return None
    ok, error = answer.get("ok"), answer.get("error")
    if error is None:
        return fields(ok)
    error = fields(error)
    if ok is not None or error is None:
        return None
    names = ("code", "message", "help", "retry_after", "max_lifespan")
    values = [error.get(name) for name in names]  # type: List[Any]
    # The numbers may be left out; True is none.
    kinds = [type(value) for value in values if value is not None]
    if kinds[:3] != [str] * 3 or set(kinds[3:]) - {int}:
        return None
    return Refused(*values)
