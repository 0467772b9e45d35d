"""A service of a node that knows whose requests it gets, and holds no secret.

    service.py DOOR PORT

It fetches the public keys from the HTTP door of slurm-tokend, verifies the token
of each request itself with PyJWT, and answers with the user's name, or with 401
and the kind of PyJWT's error.
"""
import http.client
import http.server
import json
import socket
import sys

import jwt


class Door(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Keys:
    """The public keys, fetched anew when a token names one that is not known."""

    def __init__(self, door):
        self.door = door
        self.keys = {}

    def fetch(self):
        door = Door(self.door)
        door.request("GET", "/.well-known/jwks.json")
        answer = json.load(door.getresponse())
        self.keys = {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(answer).keys}

    def find(self, kid):
        if kid not in self.keys:
            self.fetch()
        if kid not in self.keys:
            raise jwt.InvalidKeyError(kid)
        return self.keys[kid]


class Service(http.server.BaseHTTPRequestHandler):
    def user(self):
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise jwt.InvalidTokenError()
        key = keys.find(jwt.get_unverified_header(token).get("kid"))
        required = {"require": ["exp", "iat", "nbf", "jti", "sun"]}
        return jwt.decode(token, key, algorithms=["RS256"], options=required)["sun"]

    def do_GET(self):
        try:
            status, said = 200, self.user()
        except jwt.PyJWTError as error:
            status, said = 401, type(error).__name__
        self.send_response(status)
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_):
        pass


keys = Keys(sys.argv[1])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Service).serve_forever()
