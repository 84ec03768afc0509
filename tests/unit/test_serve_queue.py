"""Too many requests, clients that went away, answers that come too late, a server that stops: on an engine that waits."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager

import numpy as np
import pytest
from asgi_client import app_of, request, send_request
from blob_bundle import write_blob_bundle

from edgeai.serve import tasks
from edgeai.serve.app import build_app
from edgeai.serve.crew import Crew, Errand, Ticket
from edgeai.serve.guard import Health
from edgeai.serve.model import ServedModel
from edgeai.serve.settings import ServeSettings

BLOB = "/v1/models/blob/predict"
JPEG = {"content-type": "image/jpeg"}


@pytest.fixture
def blob(tmp_path):
    return write_blob_bundle(tmp_path / "blob")


class GateTask(tasks.Task):
    """Says "done" once its gate is open."""

    kinds = ("image/jpeg",)

    def __init__(self, bundle, settings):
        self.bundle, self.engines, self.file = bundle, ["engine"] * settings.workers, None
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.ran = []

    def read(self, body, kind):
        def run(engine, ticket):
            self.entered.release()
            self.gate.wait()
            self.ran.append(body)

        return Errand(run, lambda found: {"labels": []})

    def close(self):
        self.gate.set()


@pytest.fixture
def gated(blob, monkeypatch):
    """(app, task, health) of settings: an engine that waits for its gate."""
    monkeypatch.setitem(tasks.TASKS, "detect", GateTask)

    @contextmanager
    def gated(**options):
        settings = ServeSettings(**options)
        model = ServedModel(blob, settings)
        health = Health()
        try:
            yield build_app([model], settings, health), model._task, health
        finally:
            model._task.gate.set()
            model.close()

    return gated


async def in_engine(task):
    await asyncio.to_thread(task.entered.acquire)


def test_a_full_queue_says_when_to_come_again(gated):
    async def flood(app, task):
        waiting = [
            asyncio.create_task(send_request(app, "POST", BLOB, body=b"%d" % n, headers=JPEG))
            for n in range(5)
        ]
        await in_engine(task)
        refused = await send_request(app, "POST", BLOB, body=b"late", headers=JPEG)
        task.gate.set()
        return refused, await asyncio.gather(*waiting)

    with gated(queue=3) as (app, task, _):
        refused, answered = asyncio.run(flood(app, task))
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        assert "3 requests waiting" in refused.json()["error"]
        assert [reply.status for reply in answered] == [200] * 5
        assert request(app, "GET", "/v1/stats").json()["blob"]["requests"] == {"200": 5, "429": 1}
        assert request(app, "POST", BLOB, body=b"again", headers=JPEG).status == 200


def test_whoever_went_away_does_not_reach_the_engine(gated):
    async def leave(app, task):
        first = asyncio.create_task(send_request(app, "POST", BLOB, body=b"first", headers=JPEG))
        await in_engine(task)
        gone = asyncio.Event()
        second = asyncio.create_task(
            send_request(app, "POST", BLOB, body=b"second", headers=JPEG, leave=gone)
        )
        third = asyncio.create_task(send_request(app, "POST", BLOB, body=b"third", headers=JPEG))
        await asyncio.sleep(0)
        gone.set()
        await second
        task.gate.set()
        return [(await first).status, (await third).status]

    with gated() as (app, task, _):
        assert asyncio.run(leave(app, task)) == [200, 200]
        assert task.ran == [b"first", b"third"]
        assert request(app, "GET", "/v1/stats").json()["blob"]["requests"] == {"200": 2, "499": 1}


def test_an_answer_that_comes_too_late_is_a_504(gated):
    with gated(deadline_s=0.01) as (app, _, _):
        reply = request(app, "POST", BLOB, body=b"x", headers=JPEG)
        assert (reply.status, "within 0.01 s" in reply.json()["error"]) == (504, True)


def test_a_stopping_server_takes_nothing_new(gated):
    with gated() as (app, task, health):
        health.stopping = True
        assert request(app, "GET", "/healthz").status == 503
        assert request(app, "POST", BLOB, body=b"x", headers=JPEG).status == 503
        assert task.ran == []


def test_two_workers_run_two_requests_at_once(gated):
    async def both(app, task):
        sent = [
            asyncio.create_task(send_request(app, "POST", BLOB, body=b"x", headers=JPEG)) for _ in range(2)
        ]
        await in_engine(task)
        await in_engine(task)
        task.gate.set()
        return [(await each).status for each in sent]

    with gated(workers=2) as (app, task, _):
        assert asyncio.run(both(app, task)) == [200, 200]


def test_a_fault_of_the_program_is_told_in_one_line(blob, monkeypatch, caplog):
    class Broken(GateTask):
        def read(self, body, kind):
            raise ZeroDivisionError("secret path /etc")

    monkeypatch.setitem(tasks.TASKS, "detect", Broken)
    with app_of(blob) as app:
        reply = request(app, "POST", BLOB, body=b"x", headers=JPEG)
        assert reply.status == 500
        assert reply.json()["error"] == "a fault of this program, ZeroDivisionError"
        assert "secret path /etc" in caplog.text
        assert "Traceback" not in caplog.text
        assert request(app, "GET", "/healthz").status == 200


def test_pictures_that_wait_run_at_once_and_nothing_else_does():
    gate, entered = threading.Event(), threading.Event()
    batches, alone, told = [], [], []
    finished = threading.Semaphore(0)

    def run_batch(engine, pictures):
        batches.append([int(each) for each in pictures])
        if 13 in batches[-1]:
            raise ValueError("a fault")
        return [each * 10 for each in pictures]

    def errand(number, picture):
        def run(engine, ticket):
            entered.set()
            gate.wait()
            alone.append(number)
            return number

        return lambda: Errand(run, lambda found: (number, int(found)), np.int64(number) if picture else None)

    def done(answer, error):
        told.append(answer if error is None else type(error).__name__)
        finished.release()

    crew = Crew(["engine"], name="test", run_batch=run_batch, max_batch=3)
    tickets = {number: Ticket() for number in (1, 2, 3, 4, 5, 13, 14)}
    crew.submit(errand(1, True), tickets[1], done)
    entered.wait()
    for number, picture in ((2, True), (3, False), (4, True), (5, True), (13, True), (14, True)):
        before = crew._ready.qsize()
        crew.submit(errand(number, picture), tickets[number], done)
        while crew._ready.qsize() == before:  # read, in this order
            pass
    tickets[5].drop()
    gate.set()
    for _ in tickets:
        finished.acquire()
    assert crew.close()
    assert batches == [[2, 4], [13, 14]]
    assert alone == [1, 3]
    assert sorted(map(str, told)) == sorted(
        map(str, [(1, 1), (2, 20), (3, 3), (4, 40), "DroppedError", "ValueError", "ValueError"])
    )
