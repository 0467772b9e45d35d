"""What requests and httpx send, and to whom. Servers that redirect or say 511
are ours: the Slurm of the tests does neither."""

import asyncio
import contextlib
import io
import threading
import unittest
from unittest import mock

import httpx
import requests

import slurm_token
import slurm_token.httpx
from daemons import Daemon, Web, issued
from slurm_token import _auth


def number(token):
    """Which token it is."""
    return None if token is None else TOKENS.index(token) + 1


TOKENS = []


def run(coroutine):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def tokens(count=3):
    answers = [issued(n + 1) for n in range(count)]
    with Daemon(*answers) as daemon:
        TOKENS[:] = [slurm_token.get(socket=daemon.socket).token for _ in answers]
    return answers


class Ways:
    """The tests, for each way to call."""

    def setUp(self):
        self.daemon = Daemon(*tokens())
        self.addCleanup(self.daemon.__exit__)
        # As if every token were old enough to be replaced.
        patch = mock.patch.object(_auth, "FRESH", -1.0)
        patch.start()
        self.addCleanup(patch.stop)

    def web(self, answer):
        web = Web(answer)
        self.addCleanup(web.__exit__)
        return web

    def sent(self, web):
        return [(path, number(token), body) for path, token, body in web.asked]

    def accepting_only(self, wanted, status):
        def answer(path, token, body):
            return (200, {}, b"done") if number(token) == wanted else (status, {}, b"no")

        return self.web(answer)

    def test_a_refused_call_is_made_once_more_with_a_new_token_and_the_same_body(self):
        for status in (401, 511):
            with self.subTest(status):
                self.setUp()
                web = self.accepting_only(2, status)
                self.assertEqual(self.post(web.url + "/a", b"body"), (200, b"done"))
                self.assertEqual(self.sent(web), [("/a", 1, b"body"), ("/a", 2, b"body")])

    def test_a_call_that_is_refused_again_is_handed_back(self):
        web = self.accepting_only(0, 511)
        self.assertEqual(self.post(web.url + "/a", b"x"), (511, b"no"))
        self.assertEqual(self.sent(web), [("/a", 1, b"x"), ("/a", 2, b"x")])

    def test_another_fault_is_handed_back_at_once(self):
        web = self.accepting_only(0, 500)
        self.assertEqual(self.post(web.url + "/a", b"x"), (500, b"no"))
        self.assertEqual(self.sent(web), [("/a", 1, b"x")])

    def test_no_token_follows_a_redirect_to_another_server(self):
        other = self.web(lambda *_: (401, {}, b"other"))
        for status in (302, 307):
            for target in (other.url + "/b", other.url.replace("http:", "") + "/b"):
                with self.subTest((status, target)):
                    other.asked.clear()
                    web = self.web(lambda *_: (status, {"location": target}, b""))
                    self.assertEqual(self.post(web.url + "/a", b"x"), (401, b"other"))
                    self.assertEqual([token for _, token, _ in other.asked], [None])
                    self.assertEqual(len(web.asked), 1)

    def test_a_token_follows_a_redirect_on_its_server(self):
        def answer(path, token, body):
            return (307, {"location": "/b"}, b"") if path == "/a" else (200, {}, b"done")

        web = self.web(answer)
        self.assertEqual(self.post(web.url + "/a", b"x"), (200, b"done"))
        self.assertEqual(self.sent(web), [("/a", 1, b"x"), ("/b", 1, b"x")])

    def test_a_redirect_after_a_second_attempt_takes_no_token_away(self):
        other = self.web(lambda *_: (200, {}, b"other"))

        def answer(path, token, body):
            if number(token) == 1:
                return (401, {}, b"")
            return (307, {"location": other.url + "/b"}, b"")

        web = self.web(answer)
        self.assertEqual(self.post(web.url + "/a", b"x"), (200, b"other"))
        self.assertEqual(self.sent(web), [("/a", 1, b"x"), ("/a", 2, b"x")])
        self.assertEqual([token for _, token, _ in other.asked], [None])

    def test_nothing_is_sent_in_the_clear_to_another_machine(self):
        with self.assertRaises(slurm_token.UnsafeURL):
            self.post("http://slurm.example/", b"")
        self.assertEqual(self.daemon.asked, [])

    def test_no_answer_shows_the_token_it_was_asked_with(self):
        web = self.accepting_only(2, 401)
        self.post(web.url + "/a", b"x")
        self.assertEqual(len(self.requests), 2)
        for request in self.requests:
            self.assertNotIn("x-slurm-user-token", request.headers)


class WithRequests(Ways, unittest.TestCase):
    def post(self, url, body):
        with requests.Session() as session:
            session.auth = slurm_token.Auth(socket=self.daemon.socket)
            answer = session.post(url, data=body)
        self.requests = [one.request for one in answer.history + [answer]]
        return answer.status_code, answer.content

    def test_the_body_of_a_second_attempt_begins_where_the_first_did(self):
        web = self.accepting_only(2, 401)
        file = io.BytesIO(b"before body")
        file.seek(7)
        self.assertEqual(self.post(web.url + "/a", file), (200, b"done"))
        self.assertEqual(self.sent(web), [("/a", 1, b"body"), ("/a", 2, b"body")])

    def test_a_body_that_can_be_read_once_is_not_sent_twice(self):
        web = self.accepting_only(2, 401)
        self.assertEqual(self.post(web.url + "/a", iter([b"body"]))[0], 401)
        self.assertEqual([token for _, token, _ in self.sent(web)], [1])

    def test_a_redirect_that_readers_of_urls_disagree_about_takes_no_token_along(self):
        other = self.web(lambda *_: (200, {}, b"other"))
        for target in ["/\\127.0.0.1:{0}/", "{1}\\@{2}/", "//127.0.0.1:{0}/", "/\t/127.0.0.1:{0}/"]:
            with self.subTest(target):

                def answer(path, token, body):
                    if path != "/a":
                        return (200, {}, b"done")
                    host = web.url.replace("http://", "")
                    where = target.format(other.server.server_port, other.url, host)
                    return (302, {"location": where}, b"")

                web = self.web(answer)
                # requests itself can make nothing of the last one.
                with contextlib.suppress(requests.RequestException):
                    self.post(web.url + "/a", b"")
                followed = [token for path, token, _ in web.asked + other.asked if path != "/a"]
                self.assertEqual(set(followed) - {None}, set())
        self.assertNotEqual(other.asked, [])

    def test_the_other_librarys_client_is_told_apart(self):
        with self.assertRaisesRegex(TypeError, "slurm_token.httpx.Auth"):
            httpx.get("http://localhost/", auth=slurm_token.Auth(socket=self.daemon.socket))


class WithHttpx(Ways, unittest.TestCase):
    def auth(self):
        return slurm_token.httpx.Auth(socket=self.daemon.socket)

    def keep(self, answer):
        self.requests = [one.request for one in answer.history + [answer]]
        return answer.status_code, answer.content

    def post(self, url, body):
        with httpx.Client(auth=self.auth(), follow_redirects=True) as client:
            return self.keep(client.post(url, content=body))

    def test_a_body_that_can_be_read_once_is_sent_twice_all_the_same(self):
        web = self.accepting_only(2, 401)
        self.assertEqual(self.post(web.url + "/a", iter([b"bo", b"dy"])), (200, b"done"))
        self.assertEqual([body for _, _, body in self.sent(web)][1], b"body")

    def test_a_transport_that_does_not_tell_what_it_sends_gets_no_token(self):
        def handle(request):
            return httpx.Response(401)

        with httpx.Client(transport=httpx.MockTransport(handle), auth=self.auth()) as client:
            with self.assertRaisesRegex(RuntimeError, "no trace extension"):
                client.get("https://slurm.example/")

    def test_a_trace_of_the_callers_own_is_still_called(self):
        web = self.accepting_only(1, 401)
        events = []
        with httpx.Client(auth=self.auth()) as client:
            extensions = {"trace": lambda event, info: events.append(event)}
            answer = client.get(web.url + "/a", extensions=extensions)
        self.assertEqual(answer.status_code, 200)
        self.assertIn("http11.send_request_headers.started", events)

    def test_an_answer_is_streamed_as_without_it(self):
        web = self.accepting_only(1, 401)
        with httpx.Client(auth=self.auth()) as client:
            with client.stream("GET", web.url + "/a") as answer:
                self.assertFalse(answer.is_stream_consumed)
                self.assertEqual(answer.read(), b"done")


class WithAsyncHttpx(WithHttpx):
    def post(self, url, body):
        async def call():
            async with httpx.AsyncClient(auth=self.auth(), follow_redirects=True) as client:
                return await client.post(url, content=body)

        return self.keep(run(call()))

    # An async client takes an async iterator in its place.
    test_a_body_that_can_be_read_once_is_sent_twice_all_the_same = None

    def test_the_event_loop_never_waits_for_the_daemon(self):
        asked = []

        def slow(connection):
            asked.append(True)
            connection.makefile("rb").read()
            went_on.wait()
            connection.sendall(issued())

        went_on = threading.Event()
        web = self.web(lambda *_: (200, {}, b"done"))

        async def call(auth):
            async with httpx.AsyncClient(auth=auth) as client:
                answer = asyncio.ensure_future(client.get(web.url + "/a"))
                while not asked:
                    await asyncio.sleep(0.001)
                went_on.set()
                return await answer

        with Daemon(slow) as daemon:
            answer = run(call(slurm_token.httpx.Auth(socket=daemon.socket)))
        self.assertEqual(answer.status_code, 200)
