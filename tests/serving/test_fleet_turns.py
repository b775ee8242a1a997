"""Which rows travel together, whose turn it is, and what is admitted; without processes."""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fleet_cases import SAVED, rows_of

from polydetr.core.examples import Example
from polydetr.core.runner import Outputs
from polydetr.inference.service import ServiceModel
from polydetr.serving import frames
from polydetr.serving.contract import Ask, Busy
from polydetr.serving.parcels import Parcel, ServedModel
from polydetr.serving.shadow import MOST_WAITING, compare
from polydetr.serving.turns import Arrival, Pool
from polydetr.serving.waiting import PARCEL_ROWS, Waiting, parcels_of
from polydetr.serving.worker import Worker


@dataclass(eq=False)
class FakePiece:
    tokens: int
    parcel: Any
    tag: float = 0.0
    taken: list[int] = field(default_factory=list)


MODEL = SimpleNamespace(draws=False)


def pieces(request: int, *tokens: int, served: Any = MODEL, late: bool = False) -> list[Any]:
    deadline = -math.inf if late else math.inf
    parcel = SimpleNamespace(id=request, request=request, served=served, deadline=deadline)
    return [FakePiece(n, parcel) for n in tokens]


def turn(pool: Pool) -> list[int]:
    """The requests of the next turn."""
    work = pool.take()
    assert work.encode is None
    return [piece.parcel.request for piece in work.compute]


def arrival(request: int, rows: int, *, deadline: float = math.inf) -> Arrival:
    return Arrival({"id": request, "request": request, "images": [0] * rows}, [], deadline)


def test_a_lone_row_goes_at_once_and_rows_that_wait_go_together() -> None:
    pool = Pool(budget=100)
    pool.add(pieces(1, 10), tag=0)
    assert turn(pool) == [1]
    for request in range(2, 6):
        pool.add(pieces(request, 10), tag=0)
    assert sorted(turn(pool)) == [2, 3, 4, 5]


def test_a_turn_is_a_budget_of_padded_tokens_and_of_like_lengths() -> None:
    pool = Pool(budget=100)
    pool.add(pieces(1, 40), tag=0)
    for request, tokens in ((2, 5), (3, 45), (4, 6), (5, 300), (6, 38)):
        pool.add(pieces(request, tokens), tag=1)
    assert turn(pool) == [1, 6]  # 45 would make three rows of 45
    assert turn(pool) == [2, 4]
    assert turn(pool) == [3]
    assert turn(pool) == [5]  # longer than the budget: alone


def test_where_little_waits_a_turn_is_a_part_of_it() -> None:
    few, many = Pool(budget=1000), Pool(budget=1000)
    few.add(pieces(1, *[50] * 12), tag=0)
    many.add(pieces(1, *[50] * 200), tag=0)
    assert [len(turn(few)) for _ in range(4)] == [4, 2, 2, 1]
    assert len(turn(many)) == 20


def test_a_large_request_does_not_starve_a_small_one() -> None:
    pool = Pool(budget=100)
    pool.add(pieces(1, *[10] * 200), tag=0)
    assert turn(pool) == [1] * 10
    assert turn(pool) == [1] * 10
    pool.arrive(one := arrival(2, 1))
    assert one.tag < 200 * 10
    pool.add(pieces(2, 10), tag=one.tag)
    assert turn(pool)[0] == 2


def test_rows_are_encoded_in_turns_too_and_not_far_ahead() -> None:
    pool = Pool(budget=100)
    for _ in range(50):
        pool.arrive(arrival(1, 32))
    pool.arrive(arrival(2, 1))
    order = []
    for _ in range(3):
        work = pool.take()
        assert work.encode is not None
        order.append(work.encode.request)
        pool.add(pieces(work.encode.request, *[10] * work.encode.rows), tag=work.encode.tag)
    assert order == [1, 2, 1]
    assert 2 in turn(pool)  # 650 tokens wait: no more are encoded before some are computed


def test_models_and_drawn_requests_do_not_mix() -> None:
    pool, other, draws = Pool(budget=1000), SimpleNamespace(draws=False), SimpleNamespace(draws=True)
    pool.add(pieces(1, 10, 10), tag=0)
    pool.add(pieces(2, 10, served=other), tag=1)
    pool.add(pieces(3, 10, 10, served=draws), tag=2)
    pool.add(pieces(4, 10, served=draws), tag=2)
    assert [turn(pool) for _ in range(4)] == [[1, 1], [2], [3, 3], [4]]


def test_late_and_forgotten_rows_are_not_computed_and_spare_ones_last() -> None:
    pool = Pool(budget=1000)
    pool.add(pieces(1, 10, late=True), tag=0)
    pool.add(pieces(2, 10), tag=0)
    pool.add(pieces(3, 10), tag=0)
    pool.arrive(arrival(5, 2, deadline=-math.inf))
    pool.add_spare(pieces(9, 10))
    assert pool.spare == 1
    pool.forget(3)
    work = pool.take()
    assert work.late == [1, 5]
    assert turn(pool) == [2]
    assert turn(pool) == [9]
    assert pool.spare == 0


def request(rows: int, *, size: int = 10, version: Any = None) -> Any:
    version = version or SimpleNamespace(row_s=0.01, handle=1)
    done = SimpleNamespace(done=lambda: False)
    made = SimpleNamespace(count=rows, rows=[[b"x" * size]] * rows, size=rows * size, version=version, done=done)
    made.parcels = parcels_of(made, whole=False)
    return made


def test_requests_take_turns_in_parcels() -> None:
    waiting = Waiting(rows=1000, size=10**9)
    large, small = request(100), request(2)
    waiting.add(large)
    assert len(waiting.next({1}).places) == PARCEL_ROWS  # type: ignore[union-attr]
    waiting.add(small)
    order = [waiting.next({1}) for _ in range(5)]
    assert [sending and sending.request for sending in order[:2]] == [large, small]
    assert [len(s.places) for s in order[2:] if s] == [32, 4]
    assert order[4] is None
    waiting.add(other := request(1, version=SimpleNamespace(row_s=0.01, handle=2)))
    assert waiting.next({1}) is None  # where its model is, there is no room
    assert waiting.next({1, 2}).request is other  # type: ignore[union-attr]
    assert len(parcels_of(request(100), whole=True)) == 1
    assert [len(s.places) for s in parcels_of(request(3, size=700_000), whole=False)] == [1, 1, 1]


def test_a_row_without_content_parts_the_parcels() -> None:
    made = request(5)
    made.rows[2] = None
    assert [list(sending.places) for sending in parcels_of(made, whole=False)] == [[0, 1], [3, 4]]


def test_more_than_may_wait_is_refused_with_the_time_that_it_takes() -> None:
    waiting = Waiting(rows=100, size=10_000)
    how = {"row_s": 0.01, "lanes": 1}
    waiting.admit(5000, 10**6, timeout_s=60, **how)  # alone, any request is taken
    waiting.add(first := request(90))
    waiting.admit(10, 100, timeout_s=60, **how)
    with pytest.raises(Busy):
        waiting.admit(11, 100, timeout_s=60, **how)
    with pytest.raises(Busy):
        waiting.admit(1, 9_999, timeout_s=60, **how)
    waiting.leave(first)
    assert (waiting.rows, waiting.bytes, waiting.requests, waiting.seconds) == (0, 0, 0, 0)


def test_what_cannot_be_answered_in_its_time_is_refused_at_once() -> None:
    waiting = Waiting(rows=10**6, size=10**9)
    slow = SimpleNamespace(row_s=0.1)
    waiting.add(request(1000, version=slow))  # 100 s of work, in one request
    waiting.admit(1, 10, row_s=0.1, timeout_s=1, lanes=1)  # which a single row does not wait for
    with pytest.raises(Busy) as refused:
        waiting.admit(500, 10, row_s=0.1, timeout_s=10, lanes=1)
    assert 1 <= refused.value.retry_after <= 60
    waiting.admit(500, 10, row_s=0.1, timeout_s=10, lanes=8)
    with pytest.raises(Busy):  # 6.25 s of 8 are taken, which is too much to be sure
        waiting.admit(500, 10, row_s=0.1, timeout_s=8, lanes=8)


class Failing:
    """A runner that cannot compute one of the examples."""

    def __init__(self, runner: Any, bad: Example) -> None:
        self.runner, self.bad = runner, bad

    def run(self, examples: Any, targets: Any, **how: Any) -> list[Outputs]:
        if any(example is self.bad for example in examples):
            raise RuntimeError("cannot allocate memory for /srv/secret")
        return self.runner.run(examples, targets, **how)


def test_a_row_that_cannot_be_computed_fails_alone() -> None:
    model = ServiceModel.load(SAVED / "text" / "model")
    rows = rows_of("text")
    served = ServedModel(1, model)
    parcel = Parcel.read(rows, id=1, request=0, served=served, ask=Ask(), first=11, deadline=math.inf)
    parcel.engine = parcel.engine.with_runner(Failing(model.engine.runner, parcel.pieces[3].document.examples[0]))
    assert len(parcel.pieces) == len(rows)
    parcel.compute_alone()
    assert parcel.pieces == []
    assert [reply is not None and "error" in reply for reply in parcel.replies] == [i == 3 for i in range(len(rows))]
    failed = parcel.replies[3]
    assert failed is not None
    assert failed["error"]["location"] == {"row": 14, "column": None}
    assert "RuntimeError" in failed["error"]["message"]
    assert parcel.left == 0
    assert all(seconds >= 0 for seconds in parcel.seconds.values())
    assert np.isfinite(parcel.tokens)


def test_rows_that_a_shadow_has_no_room_for_are_not_read_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    read: list[Any] = []
    monkeypatch.setattr(Parcel, "read", lambda rows, **_: read.append(rows))
    with ours, theirs:
        worker = Worker(theirs, budget=100, mark="x")
        worker._shadows, worker.models._models = {1: 2}, {2: None}  # type: ignore[dict-item]
        worker._pool.add_spare(pieces(9, *[10] * (MOST_WAITING - 1)))
        replies = [{"row": 1, "prediction": {}}, {"row": 2, "prediction": {}}]
        parcel = SimpleNamespace(served=SimpleNamespace(handle=1), rows=[{}, {}], replies=replies, ask=Ask(), first=1)
        worker._ask_shadow(parcel)  # type: ignore[arg-type]
        told, _ = frames.receive(ours)
    assert told["compared"]["skipped"] == 2
    assert read == []


def test_a_shadow_differs_in_answers_and_not_in_how_sure_it_is() -> None:
    one = [
        {"prediction": {"a": "x", "n": 1.2345, "s": [{"start": 0, "end": 2, "score": 0.9}]}},
        {"error": {"message": "no"}},
        {"prediction": {"a": "x", "n": 1.0, "s": []}},
        None,
    ]
    other = [
        {"prediction": {"a": "x", "n": 1.2349, "s": [{"start": 0, "end": 2, "score": 0.1, "abstained": True}]}},
        {"error": {"message": "other words"}},
        {"prediction": {"a": "y", "n": 1.1, "s": [{"start": 0, "end": 2, "score": 0.9}]}},
        {"prediction": {}},
    ]
    half = {"same": 1, "different": 1}
    assert compare(one, other) == {"a": half, "n": half, "s": half, "error": {"same": 1, "different": 0}}
