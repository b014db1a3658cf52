"""The edge: bounds on bodies, ids and traces, clients that go away, the drain, and a log without text."""

import asyncio
import json
import logging
import time

import pytest

pytest.importorskip("fastapi")

from fineline.server.drain import Drain
from fineline.server.faults import OverloadError
from fineline.server.logs import JsonLines, place_of
from fineline.server.metrics import Metrics
from fineline.server.middleware import Edge
from fineline.server.problems import UnauthorizedError
from fineline.server.settings import LimitSettings

MARKER = "zebrawhisper"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Client:
    """One request at the ASGI level; ``messages`` are what it sends, after which it waits or goes away."""

    def __init__(self, *messages, gone_after=None, method="POST", headers=(), kind="http"):
        self.scope = {
            "type": kind,
            "method": method,
            "path": "/v1/classify",
            "headers": [(name.encode(), value.encode()) for name, value in headers],
        }
        self._messages = list(messages)
        self._gone_after = gone_after
        self.read = 0
        self.sent = []

    async def receive(self):
        if self._messages:
            self.read += 1
            await asyncio.sleep(0)
            return self._messages.pop(0)
        if self._gone_after is None:
            await asyncio.Event().wait()
        await asyncio.sleep(self._gone_after)
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def error(self):
        return json.loads(self.sent[1]["body"])["error"]


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(scope, receive, send):
    """Answers with the body it read."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def serve(app, client, *, drain=None, **limits):
    metrics = Metrics()
    edge = Edge(app, limits=LimitSettings(**limits), metrics=metrics, drain=drain or Drain(), log=True)
    asyncio.run(asyncio.wait_for(edge(client.scope, client.receive, client.send), 100))
    assert metrics.registry.get_sample_value("fineline_requests_running") == 0
    return metrics.registry


# --- bodies


def test_a_body_in_pieces_arrives_whole():
    client = Client(part(b"ab", True), part(b"", True), part(b"cd"))
    serve(echo, client, max_body=4)
    assert (client.status, client.sent[1]["body"]) == (200, b"abcd")


def test_a_body_over_the_limit_is_refused_and_thrown_away_not_held():
    client = Client(part(b"abc", True), part(b"abc", True), *(part(b"x" * 9, True) for _ in range(50)), part(b""))
    serve(echo, client, max_body=4)
    assert (client.status, client.error["code"]) == (413, "body_too_large")
    assert client.headers["connection"] == "close"
    assert client.read == 53, "the sender must be let finish, or it reads a reset instead of the refusal"


def test_who_asked_first_and_sends_too_much_is_let_finish():
    client = Client(part(b"abc", True), part(b"abc", True), part(b"abc"), headers=[("expect", "100-continue")])
    serve(echo, client, max_body=4)
    assert (client.status, client.read) == (413, 3)


@pytest.mark.parametrize("headers", [[("transfer-encoding", "chunked")], [("content-length", "9")]])
def test_a_method_that_needs_no_body_may_not_bring_more_than_others(headers):
    client = Client(part(b"abc", True), part(b"abc", True), part(b"abc"), headers=headers)
    client.scope["method"] = "GET"
    serve(echo, client, max_body=4)
    assert (client.status, client.error["code"]) == (413, "body_too_large")


def test_an_endless_body_is_not_read_for_ever(monkeypatch):
    monkeypatch.setattr("fineline.server.intake._LINGER", 0.1)

    class Endless(Client):
        async def receive(self):
            await asyncio.sleep(0.001)
            return part(b"x" * 100, True)

    client = Endless()
    began = time.monotonic()
    serve(echo, client, max_body=50)
    assert client.status == 413
    assert time.monotonic() - began < 20


def test_a_body_that_does_not_come_is_not_waited_for():
    client = Client(part(b"ab", True))
    serve(echo, client, deadline_seconds=0.1)
    assert (client.status, client.error["code"]) == (408, "slow_body")
    assert client.headers["connection"] == "close"


def test_the_bodies_of_all_requests_together_are_bounded():
    drain, metrics = Drain(), Metrics()
    edge = Edge(echo, limits=LimitSettings(max_body=8, max_bodies=10), metrics=metrics, drain=drain, log=False)

    class Slow(Client):
        async def receive(self):
            if not self._messages[1:]:
                await finish.wait()
            return await super().receive()

    async def main():
        slow = Slow(part(b"abcdef", True), part(b"gh"))
        holding = asyncio.create_task(edge(slow.scope, slow.receive, slow.send))
        await asyncio.sleep(0.02)
        second = Client(part(b"abc", True), part(b"de", True), part(b"f"))
        await edge(second.scope, second.receive, second.send)
        assert (second.status, second.error["code"]) == (429, "overloaded")
        assert (second.headers["retry-after"], second.headers["connection"]) == ("1", "close")
        assert second.read == 3, "the sender must be let finish"
        small = Client(part(b"abcd"))
        await edge(small.scope, small.receive, small.send)
        assert small.status == 200
        finish.set()
        await holding
        assert slow.sent[1]["body"] == b"abcdefgh"
        third = Client(part(b"abcdefgh"))
        await edge(third.scope, third.receive, third.send)
        assert third.status == 200

    finish = asyncio.Event()
    asyncio.run(asyncio.wait_for(main(), 100))
    assert edge._intake.held == 0
    assert metrics.registry.get_sample_value("fineline_overloads_total") == 1


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ([("content-length", "70000")], True),
        ([("transfer-encoding", "chunked")], True),
        ([("content-length", "70000"), ("expect", "100-continue")], True),
        ([("content-length", "60000")], False),
        ([("content-length", "0")], False),
    ],
)
def test_a_large_body_is_not_read_before_its_sender_is_known(headers, asked):
    seen = []

    def check(connection):
        seen.append(connection.headers.get("content-length"))
        raise UnauthorizedError("missing_api_key", "Send your API key.")

    client = Client(part(b"ab", True), part(b"cd"), headers=headers)
    edge = Edge(echo, limits=LimitSettings(), metrics=Metrics(), drain=Drain(), log=False, check=check)
    asyncio.run(asyncio.wait_for(edge(client.scope, client.receive, client.send), 100))
    assert len(seen) == asked
    if asked:
        assert (client.status, client.error["code"]) == (401, "missing_api_key")
        assert client.headers["www-authenticate"] == "Bearer"
        # Who asks first is not asked to send; the others are let finish, or they would read a reset.
        assert client.read == (0 if ("expect", "100-continue") in headers else 2)
    else:
        assert client.status == 200


@pytest.mark.parametrize(
    ("path", "asked"), [("/v1/classify", True), ("/v2/models/m/infer", True), ("/v1/feedback", False)]
)
def test_a_full_queue_refuses_before_the_body_is_read(path, asked):
    def check_room():
        raise OverloadError(2.4)

    client, metrics = Client(part(b"ab", True), part(b"cd")), Metrics()
    client.scope["path"] = path
    edge = Edge(echo, limits=LimitSettings(), metrics=metrics, drain=Drain(), log=False, check_room=check_room)
    asyncio.run(asyncio.wait_for(edge(client.scope, client.receive, client.send), 100))
    assert client.status == (429 if asked else 200), "what is no text to judge does not wait for the model"
    assert (client.read == 0) == asked
    assert metrics.registry.get_sample_value("fineline_overloads_total") == asked
    assert not asked or client.headers["retry-after"] == "3"


# --- clients that go away


@pytest.mark.parametrize("messages", [[], [part(b"ab", True)]])
def test_a_client_that_goes_away_while_sending_gets_nothing(messages, caplog):
    client = Client(*messages, gone_after=0)
    caplog.set_level(logging.INFO)
    registry = serve(echo, client)
    assert client.sent == []
    assert registry.get_sample_value("fineline_cancelled_total") == 1
    assert caplog.records[-1].fields["status"] == 499


def test_a_client_that_goes_away_cancels_its_work():
    seen = []

    async def slow(scope, receive, send):
        await receive()
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    client = Client(part(b"ab"), gone_after=0.05)
    registry = serve(slow, client)
    assert seen == ["cancelled"]
    assert client.sent == []
    assert registry.get_sample_value("fineline_cancelled_total") == 1


def test_a_route_that_waits_for_the_disconnect_hears_of_it():
    async def stream(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            assert (await receive())["type"] == "http.disconnect"
        finally:
            heard.append(True)

    heard = []
    serve(stream, Client(part(b"ab"), gone_after=0.05))
    assert heard == [True]


def test_a_client_that_leaves_after_its_answer_disturbs_nothing():
    async def tidy(scope, receive, send):
        await echo(scope, receive, send)
        await asyncio.sleep(0.1)
        done.append(True)

    done = []
    client = Client(part(b"ab"), gone_after=0.02)
    serve(tidy, client)
    assert done == [True] and client.status == 200


def test_a_server_that_cancels_is_not_mistaken_for_a_client_that_leaves():
    async def slow(scope, receive, send):
        await asyncio.sleep(20)

    async def main():
        edge = Edge(slow, limits=LimitSettings(), metrics=Metrics(), drain=Drain(), log=True)
        client = Client(part(b"ab"))
        task = asyncio.create_task(edge(client.scope, client.receive, client.send))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


# --- ids and traces


def test_ids_and_traces_are_handed_on(caplog):
    caplog.set_level(logging.INFO)
    given = [("x-request-id", "abc-1"), ("traceparent", TRACE), ("tracestate", "a=1,b=2")]
    client = Client(part(b"ab"), headers=given)
    serve(echo, client)
    assert {name: client.headers[name] for name, _ in given} == dict(given)
    fields = caplog.records[-1].fields
    assert (fields["request_id"], fields["trace_id"]) == ("abc-1", TRACE.split("-")[1])


@pytest.mark.parametrize("bad", [f"tell {MARKER}", "x" * 65, "", "a\nb"])
def test_an_id_that_could_be_text_is_replaced(bad, caplog):
    caplog.set_level(logging.INFO)
    client = Client(part(b"ab"), headers=[("x-request-id", bad), ("traceparent", bad), ("tracestate", MARKER)])
    serve(echo, client)
    assert len(client.headers["x-request-id"]) == 32
    assert not {"traceparent", "tracestate"} & set(client.headers)
    assert MARKER not in caplog.text


def test_a_refusal_has_the_id_too():
    client = Client(part(b"too long"), headers=[("x-request-id", "abc-1")])
    serve(echo, client, max_body=4)
    assert client.headers["x-request-id"] == "abc-1"


# --- errors


def test_an_error_nobody_caught_is_answered_without_its_message(caplog):
    async def broken(scope, receive, send):
        raise ValueError(MARKER)

    client = Client(part(b"ab"))
    registry = serve(broken, client)
    assert (client.status, client.error["code"]) == (500, "internal")
    assert "ValueError at " in caplog.text
    assert MARKER not in caplog.text + str(client.sent)
    assert registry.get_sample_value("fineline_requests_total", {"route": "other", "status": "500"}) == 1


def test_a_timeout_in_a_route_is_no_slow_body(caplog):
    async def broken(scope, receive, send):
        raise TimeoutError

    client = Client(part(b"ab"))
    serve(broken, client)
    assert client.status == 500


def test_an_answer_that_breaks_off_is_not_completed(caplog):
    async def broken(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError(MARKER)

    client = Client(part(b"ab"))
    with pytest.raises(RuntimeError, match="broke off") as caught:
        serve(broken, client)
    assert len(client.sent) == 1
    assert caught.value.__suppress_context__
    assert MARKER not in caplog.text


def test_a_failing_websocket_is_closed_and_logged_without_the_message(caplog):
    async def broken(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise ValueError(MARKER)

    caplog.set_level(logging.INFO)
    client = Client(kind="websocket")
    serve(broken, client)
    assert [message["type"] for message in client.sent] == ["websocket.accept", "websocket.close"]
    assert client.headers["x-request-id"]
    assert MARKER not in caplog.text
    assert caplog.records[-1].fields["status"] == 101


# --- the drain


def stopping():
    drain = Drain()
    drain.stopping = True
    return drain


def test_while_it_stops_new_requests_are_sent_elsewhere():
    client = Client(part(b"ab"))
    serve(echo, client, drain=stopping())
    assert (client.status, client.error["code"]) == (503, "stopping")
    assert client.headers["connection"] == "close"
    assert client.headers["retry-after"] == "1"
    assert client.read == 1, "a sender that is not let finish reads a reset instead of the refusal"


def test_while_it_stops_no_websocket_opens():
    client = Client(kind="websocket")
    serve(echo, client, drain=stopping())
    assert (client.status, client.error["code"], client.headers["retry-after"]) == (503, "stopping", "1")
    assert client.sent[0]["type"] == "websocket.http.response.start"


@pytest.mark.parametrize(
    ("running", "at_least", "at_most", "low", "high"),
    [(0.3, 0.0, 50, 0.25, 20), (0, 0.2, 50, 0.2, 20), (90, 0, 0.2, 0.2, 20)],
)
def test_the_drain_waits_for_what_runs_within_its_bounds(running, at_least, at_most, low, high):
    async def main():
        drain = Drain()

        async def work():
            with drain.request():
                await asyncio.sleep(running)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        began = time.monotonic()
        await drain.finish(at_least=at_least, at_most=at_most)
        assert low <= time.monotonic() - began < high
        assert drain.stopping
        task.cancel()

    asyncio.run(main())


# --- logs


def test_a_log_line_tells_the_cost_and_nothing_of_the_content(caplog):
    async def judged(scope, receive, send):
        from fineline.server.judging import usage

        usage.get().texts += 2
        usage.get().tokens += 9
        scope["state"] = {"caller": "team-a"}
        await echo(scope, receive, send)

    caplog.set_level(logging.INFO)
    client = Client(part(MARKER.encode()), headers=[("user-agent", MARKER), ("x-note", MARKER)])
    client.scope |= {"path": f"/{MARKER}", "query_string": MARKER.encode()}
    serve(judged, client)
    line = JsonLines().format(caplog.records[-1])
    assert MARKER not in line
    entry = json.loads(line)
    names = "time level logger message request_id caller method route status ms texts tokens"
    assert set(entry) == set(names.split())
    assert (entry["route"], entry["status"], entry["texts"], entry["tokens"]) == ("other", 200, 2, 9)


def record(name, message, error=None, **fields):
    info = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord(name, logging.ERROR, "/code/x.py", 7, message, (), info)
    made.__dict__ |= fields
    return made


def test_only_own_lines_keep_their_message():
    line = json.loads(JsonLines().format(record("asyncio", f"Future exception: {MARKER}")))
    assert line["message"] == "at /code/x.py:7"
    assert (
        json.loads(JsonLines().format(record("fineline.server", "ready\u2028 'now'")))["message"] == "ready\u2028 'now'"
    )


def test_an_exception_is_logged_by_type_and_place():
    try:
        raise ValueError(MARKER)
    except ValueError as error:
        line = JsonLines().format(record("fineline.server", "failed", error))
        assert place_of(error).startswith("ValueError at ")
    assert MARKER not in line
    assert json.loads(line)["error"].startswith("ValueError at ")
    assert "\n" not in line
