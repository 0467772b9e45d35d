"""Faults that the real daemon can't be made to have."""

import pickle
import socket
import threading
import time
import traceback
import unittest
from unittest import mock

import slurm_token
from daemons import ME, Daemon, issued, refusal, token
from slurm_token import _daemon


def closes(connection):
    pass


def get(*ways, **wishes):
    with Daemon(*ways) as daemon:
        return slurm_token.get(socket=daemon.socket, **wishes)


class Asking(unittest.TestCase):
    def refused(self, kind, *ways, **wishes):
        with self.assertRaises(kind) as caught:
            get(*ways, **wishes)
        return caught.exception

    def test_one_request_is_sent_and_nothing_more_follows(self):
        with Daemon(issued()) as daemon:
            slurm_token.get("12h", socket=daemon.socket)
            self.assertEqual(daemon.asked, [b'{"v":1,"op":"issue","lifespan":"12h"}\n'])

    def test_a_lifespan_of_digits_is_a_number_of_seconds(self):
        with Daemon(issued()) as daemon:
            slurm_token.get("0600", socket=daemon.socket)
            self.assertEqual(daemon.asked, [b'{"v":1,"op":"issue","lifespan":600}\n'])

    def test_a_connection_that_closes_unanswered_is_tried_once_more(self):
        self.assertEqual(get(closes, issued()).user, ME)

    def test_half_an_answer_is_none(self):
        self.assertEqual(get(issued(1)[:-1], issued(2)).jti, "2")

    def test_a_daemon_that_is_stopping_is_asked_once_more(self):
        self.assertEqual(get(refusal("shutting_down"), issued()).user, ME)
        error = self.refused(slurm_token.Refused, refusal("shutting_down"))
        self.assertEqual(error.code, "shutting_down")

    def test_a_connection_that_closes_twice_unanswered_reaches_nobody(self):
        error = self.refused(slurm_token.NotReached, closes, closes, issued())
        self.assertIn("closed the connection twice", error.message)

    def test_a_refusal_is_not_asked_again(self):
        with Daemon(refusal("busy", retry_after=3), issued()) as daemon:
            with self.assertRaises(slurm_token.Refused) as caught:
                slurm_token.get(socket=daemon.socket)
        self.assertEqual((caught.exception.code, caught.exception.retry_after), ("busy", 3))

    def test_an_answer_that_came_before_the_question_is_taken(self):
        def busy(connection):
            connection.sendall(refusal("busy"))

        self.assertEqual(self.refused(slurm_token.Refused, busy).code, "busy")

    def test_an_answer_in_many_pieces_is_taken(self):
        def trickle(connection):
            for byte in issued():
                connection.sendall(bytes([byte]))

        self.assertEqual(get(trickle).user, ME)

    def test_what_is_no_answer_is_refused_and_not_repeated(self):
        for answer in [
            b"eyJsecret",
            b"",
            b"\xff\xfe\0",
            b"[" * 60000,
            b"9" * 60000,
            b"[]",
            b'{"v":1}',
            b'{"v":1,"ok":"eyJsecret"}',
            b'{"v":1,"ok":{},"error":{"code":"eyJsecret"}}',
            b'{"v":1,"ok":{"a":1,"a":2}}',
            b'{"v":1,"error":{"code":"busy","message":"eyJsecret"}}',
            b'{"v":1,"error":{"code":"busy","message":"a","help":"b","retry_after":"eyJsecret"}}',
            b'{"v":2,"ok":{}}',
            b'{"v":true,"ok":{}}',
        ]:
            with self.subTest(answer[:80]):
                error = self.refused(slurm_token.BadAnswer, answer + b"\n", issued())
                self.assertIn("not one of protocol version 1", error.message)
                self.assertNotIn("eyJsecret", str(error))

    def test_an_answer_without_end_is_refused(self):
        def endless(connection):
            while True:
                connection.sendall(b" " * 4096)

        error = self.refused(slurm_token.BadAnswer, endless)
        self.assertIn("longer than 65536 bytes", error.message)

    def test_the_longest_answer_is_taken(self):
        def pauses(connection):
            answer = issued()
            connection.sendall(b" " * (65537 - len(answer)) + answer[:-1])
            time.sleep(0.05)
            connection.sendall(b"\n")

        self.assertEqual(get(pauses).user, ME)

    def test_a_daemon_that_never_answers_is_given_up(self):
        released = threading.Event()
        with Daemon(lambda _: released.wait()) as daemon:
            with self.assertRaises(slurm_token.NotReached) as caught:
                _daemon.ask(daemon.socket, b"{}\n", patience=0.05)
            released.set()
        self.assertIn("no answer in time", caught.exception.message)

    def test_a_daemon_that_trickles_for_ever_is_given_up(self):
        def trickle(connection):
            while True:
                connection.sendall(b" ")
                time.sleep(0.005)

        with Daemon(trickle) as daemon:
            with self.assertRaises(slurm_token.NotReached) as caught:
                _daemon.ask(daemon.socket, b"{}\n", patience=0.1)
        self.assertIn("no answer in time", caught.exception.message)

    def test_a_daemon_that_takes_no_connection_is_given_up(self):
        with Daemon(closes) as daemon:
            daemon.listener.close()
            path = daemon.socket + "-full"
            with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as first:
                full.bind(path)
                full.listen(0)
                first.connect(path)
                with self.assertRaises(slurm_token.NotReached) as caught:
                    _daemon.ask(path, b"{}\n", patience=0.05)
        self.assertIn("too many wait for it", caught.exception.message)


class Answers(unittest.TestCase):
    def refused(self, answer, **wishes):
        with self.assertRaises(slurm_token.BadAnswer) as caught:
            get(answer, **wishes)
        return caught.exception

    def test_a_token_for_another_than_was_asked_for_is_refused(self):
        error = self.refused(issued(user="mallory"), for_user="bob")
        self.assertEqual(error.message, "the daemon's answer is for mallory, and bob was asked for")

    def test_an_own_token_in_another_name_than_the_local_accounts_is_refused(self):
        self.assertIn("that's not your uid", self.refused(issued(user="mallory")).message)

    def test_a_token_that_speaks_for_another_than_the_answer_is_refused(self):
        error = self.refused(issued(token=token('{"sun":"bob"}')))
        self.assertIn("and its token for bob", error.message)

    def test_what_is_no_token_is_refused(self):
        sun = '{{"sun":"{}"}}'.format(ME)
        good = token(sun)
        for bad in [
            "",
            "..",
            good + ".x",
            good + "\n",
            good + "=",
            good + "\r\nX-EVIL: 1",
            good + "x" * 12288,
            "a.bm8.b",
            "a.b.c",
            token("{}"),
            token('{"sun":1001}'),
            token('{{"sun":"{0}","sun":"{0}"}}'.format(ME)),
            token('[["sun","{}"]]'.format(ME)),
            5,
            None,
        ]:
            with self.subTest(bad):
                self.assertIn("holds no token", self.refused(issued(token=bad)).message)

    def test_a_user_that_no_header_could_hold_is_refused(self):
        for user in ["", "al ice", "alice\nX-EVIL: 1", "alic\u00e9"]:
            with self.subTest(user):
                self.assertIn("is no user name", self.refused(issued(user=user)).message)

    def test_a_refused_answer_shows_its_token_in_no_frame_of_the_traceback(self):
        for answer in [
            issued(user="mallory"),
            issued(expires_at="x"),
            issued()[:-3] + b"\n",
            issued()[:-1] + b" " * 70000,
        ]:
            with self.subTest(answer):
                # assertRaises would clear the frames.
                try:
                    with Daemon(answer) as daemon:
                        slurm_token.get(socket=daemon.socket)
                except slurm_token.BadAnswer as error:
                    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
                    self.assertIsNone(error.__context__)
                frames = [
                    "".join("{} = {}".format(*local) for local in (frame.locals or {}).items())
                    for frame in shown.stack
                    if "test_get" not in frame.filename
                ]
                self.assertGreater(len(frames), 0)
                self.assertNotIn("eyJ9", "".join(frames))

    def test_a_token_shows_itself_only_where_it_is_asked_for(self):
        got = get(issued())
        for shown in [repr(got), str(got), "{}".format(got), repr([got])]:
            self.assertNotIn("eyJ9", shown)
            self.assertIn(ME, shown)
        self.assertEqual(got.headers, {"X-SLURM-USER-NAME": ME, "X-SLURM-USER-TOKEN": got.token})


class Arguments(unittest.TestCase):
    def test_what_makes_no_sense_is_said_before_anybody_is_asked(self):
        for kind, wishes in [
            (TypeError, {"lifespan": 1.5}),
            (TypeError, {"lifespan": True}),
            (ValueError, {"for_user": ""}),
            (ValueError, {"for_user": "x" * 17000}),
            (ValueError, {"socket": ""}),
            (ValueError, {"socket": "\0abstract"}),
            (ValueError, {"socket": "/s", "cluster": "c"}),
            (ValueError, {"cluster": "../../tmp/x"}),
            (ValueError, {"cluster": ""}),
            (ValueError, {"cluster": "a\n"}),
        ]:
            for call in (slurm_token.get, slurm_token.Auth):
                with self.subTest(wishes), self.assertRaises(kind):
                    call(**wishes)

    def test_another_daemon_is_named_by_its_cluster(self):
        self.assertEqual(
            _daemon.choose(None, "alps-2"), "/run/slurm-tokend-alps-2/slurm-tokend.sock"
        )

    def test_an_empty_name_in_the_environment_names_nothing(self):
        with mock.patch.dict("os.environ", SLURM_TOKEND_SOCKET=""):
            self.assertEqual(_daemon.choose(None, None), _daemon.DEFAULT_SOCKET)


class Errors(unittest.TestCase):
    def test_others_text_moves_no_cursor(self):
        error = slurm_token.Refused("internal", "a\x1b[2J\n\u202e" + "x" * 3000, "b\r")
        self.assertTrue(str(error).startswith("a\\x1b[2J\\n\\u202exxx"))
        self.assertTrue(str(error).endswith("x...\nb\\r"))
        self.assertEqual(str(error).count("x"), 1994)

    def test_an_error_survives_its_way_between_processes(self):
        error = slurm_token.Refused("rate_limited", "No.", "Wait.", 7, None)
        again = pickle.loads(pickle.dumps(error))
        self.assertEqual((type(again), again.code, again.retry_after), (type(error), "rate_limited", 7))
