"""Daemons and servers that behave as the real ones never would."""

import base64
import contextlib
import http.server
import json
import os
import pwd
import socket
import socketserver
import tempfile
import threading
import time

ME = pwd.getpwuid(os.geteuid()).pw_name


def token(claims):
    """A token by its form, with these claims as they stand."""
    coded = base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=")
    return "eyJ9.{}.c2ln".format(coded)


def issued(number=0, user=ME, life=1000, **others):
    """The answer that holds the token of this number."""
    claims = json.dumps({"sun": user, "n": number})
    ok = {
        "token": token(claims),
        "user": user,
        "expires_at": int(time.time()) + life,
        "kid": "k",
        "jti": str(number),
    }
    ok.update(others)
    return json.dumps({"v": 1, "ok": ok}).encode() + b"\n"


def refusal(code, **numbers):
    error = dict(numbers, code=code, message="No.", help="Don't.")
    return json.dumps({"v": 1, "error": error}).encode() + b"\n"


class Daemon:
    """Serves one connection after the other, each in its own way: some bytes
    to answer, or a function of the connection. The last way serves all that
    follow."""

    def __init__(self, *ways):
        self.directory = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self.directory.name, "s")
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        self.listener.listen(64)
        self.asked = []
        threading.Thread(target=self.serve, args=(list(ways),), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.directory.cleanup()

    def serve(self, ways):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            way = ways.pop(0) if len(ways) > 1 else ways[0]
            with connection, contextlib.suppress(ConnectionError):
                if callable(way):
                    way(connection)
                    continue
                asked = connection.makefile("rb").read()
                self.asked.append(asked)
                connection.sendall(way)


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


class Web:
    """An HTTP server that answers each path in its own way, and keeps what it
    was asked: path, token and body."""

    def __init__(self, answer):
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self):
                sent = self.headers.get("x-slurm-user-token")
                asked = (self.path, sent, self.body())
                web.asked.append(asked)
                status, headers, body = answer(*asked)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = serve

            def body(self):
                if self.headers.get("transfer-encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("content-length") or 0))
                body, size = b"", None
                while size != 0:
                    size = int(self.rfile.readline(), 16)
                    body += self.rfile.read(size)
                    self.rfile.readline()
                return body

            def log_message(self, *_):
                pass

        self.asked = []
        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:{}".format(self.server.server_port)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
