"""When a token is renewed, whatever the clock does and however many ask."""

import os
import threading
import unittest
from unittest import mock

import slurm_token
from daemons import Daemon, issued, refusal
from slurm_token._auth import Keeper, is_refusal


class Clock:
    """Stands still until it's told."""

    def __init__(self):
        self.now = 1000000000.0

    def time(self):
        return self.now

    monotonic = time


class Renewal(unittest.TestCase):
    def setUp(self):
        self.clock = Clock()
        patch = mock.patch("slurm_token._auth.time", self.clock)
        patch.start()
        self.addCleanup(patch.stop)

    def keeper(self, *ways):
        daemon = Daemon(*ways)
        self.addCleanup(daemon.__exit__)
        return Keeper(None, None, daemon.socket, None), daemon

    def issued(self, number, life=100):
        return issued(number, expires_at=int(self.clock.now) + life)

    def test_a_token_is_renewed_at_four_fifths_of_its_life(self):
        keeper, _ = self.keeper(self.issued(1), self.issued(2, 180))
        for after, number in [(0, "1"), (79, "1"), (1, "2"), (60, "2")]:
            self.clock.now += after
            self.assertEqual(keeper.token().jti, number)

    def test_a_token_is_renewed_when_the_clock_was_set_back(self):
        keeper, _ = self.keeper(self.issued(1), self.issued(2))
        keeper.token()
        self.clock.now -= 3600
        self.assertEqual(keeper.token().jti, "2")

    def test_where_renewal_fails_the_old_token_serves_until_it_expires(self):
        keeper, daemon = self.keeper(self.issued(1), refusal("rate_limited", retry_after=9))
        keeper.token()
        for after, questions in [(80, 2), (8, 2), (2, 3), (9, 4)]:
            self.clock.now += after
            self.assertEqual(keeper.token().jti, "1")
            self.assertEqual(len(daemon.asked), questions)
        self.clock.now += 1
        with self.assertRaises(slurm_token.Refused):
            keeper.token()

    def test_a_daemon_that_is_back_is_asked_again(self):
        keeper, _ = self.keeper(self.issued(1), refusal("busy"), self.issued(2, 300))
        keeper.token()
        self.clock.now += 80
        self.assertEqual(keeper.token().jti, "1")
        self.clock.now += 5
        self.assertEqual(keeper.token().jti, "2")

    def test_one_renews_while_the_others_go_on_with_the_old_token(self):
        asked, released = threading.Event(), threading.Event()

        def slow(connection):
            asked.set()
            released.wait()
            connection.sendall(self.issued(2))

        keeper, _ = self.keeper(self.issued(1), slow, refusal("internal"))
        keeper.token()
        self.clock.now += 80
        renewer = threading.Thread(target=keeper.token)
        renewer.start()
        asked.wait()
        self.assertEqual(keeper.token().jti, "1")
        released.set()
        renewer.join()
        self.assertEqual(keeper.token().jti, "2")

    def test_a_refused_token_is_replaced_once_for_all_who_had_it(self):
        keeper, daemon = self.keeper(self.issued(1), self.issued(2), self.issued(3))
        old = keeper.token()
        self.clock.now += 10
        self.assertEqual(keeper.another(old).jti, "2")
        self.assertEqual(keeper.another(old).jti, "2")
        self.assertEqual(len(daemon.asked), 2)

    def test_a_refused_token_that_is_new_is_not_replaced(self):
        keeper, _ = self.keeper(self.issued(1), self.issued(2))
        self.assertIsNone(keeper.another(keeper.token()))

    def test_a_user_uses_no_token_that_the_process_got_as_another(self):
        keeper, _ = self.keeper(self.issued(1), self.issued(2))
        keeper.token()
        # The daemon is the caller's own still, and its answer for this user.
        keeper._held = keeper._held._replace(uid=os.geteuid() + 1)
        self.assertEqual(keeper.token().jti, "2")

    def test_a_child_waits_for_no_thread_of_its_parent(self):
        keeper, _ = self.keeper(self.issued(1))
        with keeper._lock:
            child = os.fork()
            if child == 0:
                os._exit(0 if keeper.token().jti == "1" else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)


class Places(unittest.TestCase):
    def setUp(self):
        daemon = Daemon(issued())
        self.addCleanup(daemon.__exit__)
        self.auth = slurm_token.Auth(socket=daemon.socket)
        self.trusting = slurm_token.Auth(socket=daemon.socket, allow_http=True)
        self.daemon = daemon

    def test_a_token_goes_where_nobody_reads_it_on_its_way(self):
        for url in [
            "https://slurm.example:6820/slurm",
            "http://localhost:6820/slurm",
            "HTTP://LOCALHOST/",
            "http://127.0.0.2/",
            "http://[::1]:6820/",
            "http+unix://%2Frun%2Fslurmrestd.sock/slurm",
        ]:
            with self.subTest(url):
                self.assertIn("X-SLURM-USER-TOKEN", self.auth.headers(url))

    def test_a_token_goes_nowhere_else_unless_it_is_allowed(self):
        for url in [
            "http://slurm.example/",
            "http://localhost.example/",
            "http://localhost@slurm.example/",
            "http://127.0.0.1.example/",
            "http://2130706433/",
            "ftp://localhost/",
            "localhost:6820/",
        ]:
            with self.subTest(url):
                with self.assertRaises(slurm_token.UnsafeURL):
                    self.auth.headers(url)
                self.assertIn("X-SLURM-USER-TOKEN", self.trusting.headers(url))

    def test_a_url_that_readers_of_urls_disagree_about_is_none(self):
        for url in ["http://slurm.example\\@localhost/", "http://local\thost/", "http://localhost/ü", ""]:
            with self.subTest(url), self.assertRaises(ValueError):
                self.trusting.headers(url)

    def test_a_proxy_is_sent_no_token_in_the_clear(self):
        for name in ["http_proxy", "HTTP_PROXY", "all_proxy"]:
            with self.subTest(name), mock.patch.dict(os.environ, {name: "http://proxy:3128"}):
                with self.assertRaises(slurm_token.UnsafeURL):
                    self.auth.headers("http://localhost:6820/")
                self.auth.headers("https://slurm.example/")
                with mock.patch.dict(os.environ, no_proxy="localhost"):
                    self.auth.headers("http://localhost:6820/")

    def test_nobody_is_asked_for_a_token_that_goes_nowhere(self):
        with self.assertRaises(slurm_token.UnsafeURL):
            self.auth.headers("http://slurm.example/")
        self.assertEqual(self.daemon.asked, [])


class Answers(unittest.TestCase):
    def test_only_what_slurm_says_of_a_token_is_taken_for_that(self):
        # The first three as Slurm 22.05 and 26.05 say them; the last, too, are
        # 22.05's, of a partition that there isn't and of no such job.
        for status, body, verdict in [
            (401, b"Authentication failure", True),
            (500, b'{"errors":[{"error_number":-1,"error":"Unspecified error"}]}', True),
            (500, b'{"errors":[{"error_code":5005,"error":"Zero Bytes were ..."}]}', True),
            (500, b'{"errors":[{"error":"Unspecified error","errno":-1}]}', True),
            (511, b'{"errors":[{"error_number":1007}]}', True),
            (500, b'{"errors":[{"error_code":2000,"error":"Invalid partition name specified"}]}', False),
            (500, b'{"errors":[{"error_number":2017,"error":"Invalid job id specified"}]}', False),
            (500, b'{"errors":[]}', False),
            (500, b"<html>", False),
            (500, b'{"errors":["x"]}', False),
            (500, b"[" * 50000, False),
            (500, b" " * 70000 + b'{"errors":[{"errno":-1}]}', False),
            (200, b'{"errors":[{"errno":-1}]}', False),
            (403, b"", False),
        ]:
            with self.subTest(body[:80]):
                self.assertIs(is_refusal(status, body), verdict)
