"""In a model process: some rows of one request, read and encoded one by one, and the reply to each.

A row that cannot be read is answered by its error before anything is batched; what is computed among rows of other
requests has passed ``RowEncoder.encode`` already, the one that training and ``predict`` use.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polydetr.core.documents import EncodedDocument
from polydetr.core.predictions import RowResult
from polydetr.core.records import ReadReport, Record, Rejection
from polydetr.core.runner import Outputs
from polydetr.engine.answer_table import AnswerTable
from polydetr.engine.engine import Engine
from polydetr.engine.outputs import Answer, answered_row, rejected_row
from polydetr.engine.profile import Counted, profiles_in
from polydetr.errors import PolydetrError, row_fault
from polydetr.explain.run import explain_record
from polydetr.inference.options import Options, least_probabilities
from polydetr.inference.service import ServiceModel
from polydetr.serving.contract import Ask, Reply
from polydetr.tasks.capabilities import BringsTokens


class ServedModel:
    """A loaded model, as a model process answers by it. handle: its number in this fleet.

    draws: it draws at random, so that an answer depends on the number of its row in the request.
    """

    def __init__(self, handle: int, model: ServiceModel) -> None:
        self.handle, self.model = handle, model
        self.counted = Counted(model.engine.encoder, profiles_in(model.info))
        self.draws = any(isinstance(task, BringsTokens) for task in model.engine.tasks.values())

    def engine(self, ask: Ask) -> Engine:
        """Raises ConfigError: there is no such strictness or seed."""
        return self.model.engine.with_strictness(ask.strictness).with_seed(ask.seed)


@dataclass(eq=False)
class Piece:
    """A row that waits to be computed. tag: when it is its turn, see ``turns.Pool``."""

    parcel: Parcel
    place: int
    document: EncodedDocument
    tokens: int
    tag: float = 0.0


@dataclass(eq=False)
class Parcel:
    """Some rows of one request. first: the number of its first row in the request, from 1; deadline: of
    ``time.monotonic``; records: of the rows that could be read; numbers: of each piece's first window, among those of
    the request; rows: as they were sent, where a shadow is asked too; twin: what a shadow's rows are compared with.
    """

    id: int
    request: int
    served: ServedModel
    ask: Ask
    first: int
    deadline: float
    engine: Engine
    least: Mapping[str, float]
    replies: list[Reply | None] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    records: dict[int, Record] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    left: int = 0
    tokens: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "forward": 0.0, "decode": 0.0})
    gone: bool = False
    rows: Sequence[Any] = ()
    twin: Parcel | None = None
    table: AnswerTable | None = None

    @property
    def is_late(self) -> bool:
        return time.monotonic() > self.deadline

    @classmethod
    def read(
        cls,
        rows: Sequence[Any],
        *,
        id: int,
        request: int,
        served: ServedModel,
        ask: Ask,
        first: int,
        deadline: float,
        checked: bool = False,
    ) -> Parcel:
        """Reads and encodes the rows. checked: the columns of the request were looked at as a whole.

        Raises:
            InputError: a column that the model reads is in none of the rows; the options fit no target.
            ConfigError: see ``ServedModel.engine``.
        """
        began = time.perf_counter()
        engine = served.engine(ask)
        options = Options(strictness=ask.strictness, min_confidence=ask.min_confidence, accuracy=ask.accuracy)
        parcel = cls(
            id, request, served, ask, first, deadline, engine, least_probabilities(served.model.engine, options)
        )
        if ask.cells:
            tasks = engine.tasks
            parcel.table = AnswerTable(tasks, probabilities=ask.probabilities, withheld=list(parcel.least))
        entries = _read(served.model, rows, ask, checked=checked)
        parcel._encode(entries)
        if request > 0:  # of a caller
            served.counted.add(entry.row for entry in entries if isinstance(entry, Record))
        parcel.seconds["encode"] = time.perf_counter() - began
        return parcel

    def _encode(self, entries: Sequence[Record | Rejection]) -> None:
        items = self.engine.encode((e for e in entries if isinstance(e, Record)), on_error="return")
        for place, entry in enumerate(entries):
            self.replies.append(None)
            if isinstance(entry, Rejection):
                self._answer(place, rejected_row(place + 1, entry))
                continue
            item = next(items)
            if isinstance(item, RowResult):
                self._answer(place, answered_row(place + 1, item, self.engine, self.least))
                continue
            self.records[place] = entry
            self.pieces.append(Piece(self, place, item, max(1, item.num_tokens)))
        self.left = len(self.pieces)
        self.tokens = sum(piece.tokens for piece in self.pieces)

    def decode(self, piece: Piece, outputs: Sequence[Outputs]) -> None:
        """The reply to a row from what the network said of its windows."""
        try:
            result = next(iter(self.engine.answers([piece.document], [outputs])))
            self._answer(piece.place, answered_row(piece.place + 1, result, self.engine, self.least))
        except Exception as fault:
            self.fail(piece, fault)
            return
        self.left -= 1

    def fail(self, piece: Piece, fault: Exception) -> None:
        """The row could not be computed: its own error, and nobody else's."""
        record = piece.document.records[0]
        result = RowResult(record, {}, error=row_fault(fault, record.location))
        self._answer(piece.place, answered_row(piece.place + 1, result, self.engine, self.least))
        self.left -= 1

    def hand_over(self) -> list[Piece]:
        """Its rows to be computed, which it then knows no more: in a circle they would stay in memory for long."""
        pieces, self.pieces = self.pieces, []
        return pieces

    def compute_alone(self) -> None:
        """All of its rows, at once and beside no others."""
        if pieces := self.hand_over():
            computed(pieces)

    def explain(self, place: int) -> None:
        """Adds to the reply of a row why it was answered so; or, where that cannot be told, the reason."""
        reply = self.replies[place]
        assert reply is not None
        if "error" in reply:
            return
        try:
            explanation = explain_record(
                self.engine, self.records[place], target=self.ask.target, choice=self.ask.choice
            )
            reply["explanation"] = explanation.to_dict()
        except PolydetrError as error:
            reply["explanation"] = {"error": {"message": error.message, "hint": error.hint}}
        except Exception as error:
            reply["explanation"] = {"error": {"message": f"it failed ({type(error).__name__}).", "hint": None}}

    def _answer(self, place: int, answer: Answer) -> None:
        answer = _shifted(answer, self.first - 1)
        reply = answer.to_dict(probabilities=self.ask.probabilities)
        if problem := answer.error:
            column = problem.location.column
            where = {"row": problem.location.row, "column": column}
            reply["error"] = {"message": problem.message, "location": where, "hint": problem.hint}
            kinds = {f.name: f.modality for f in self.served.model.schema.inputs}
            reason = kinds.get(column or "", "row")
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if self.table is not None:
            names = [column.name for column in self.table.columns(())]
            reply["cells"] = dict(zip(names, self.table.cells(answer), strict=True))
        self.replies[place] = reply


def _shifted(answer: Answer, rows: int) -> Answer:
    """With the numbers that its row has in the request."""
    number, problem = answer.row + rows, answer.error
    if problem is not None:
        problem = replace(problem, location=replace(problem.location, file=None, line=None, row=number))
    return replace(answer, row=number, error=problem)


def computed(pieces: Sequence[Piece]) -> None:
    """Computes rows of one model and one seed together, and writes the reply to each. Where that fails, each is
    computed alone, so that the one that cannot be computed fails alone.
    """
    first = pieces[0].parcel
    examples = [example for piece in pieces for example in piece.document.examples]
    targets = list(first.engine.tasks)
    began = time.perf_counter()
    try:
        each = iter(first.engine.runner.run(examples, targets, seed=first.ask.seed, numbers=range(len(examples))))
        outputs = [[next(each) for _ in piece.document.examples] for piece in pieces]
    except Exception as fault:
        if len(pieces) == 1:
            first.fail(pieces[0], fault)
        for piece in pieces if len(pieces) > 1 else ():
            computed([piece])
        return
    done = time.perf_counter()
    for piece, windows in zip(pieces, outputs, strict=True):
        piece.parcel.decode(piece, windows)
    ended = time.perf_counter()
    tokens = sum(piece.tokens for piece in pieces)
    for piece in pieces:
        share = piece.tokens / tokens
        piece.parcel.seconds["forward"] += share * (done - began)
        piece.parcel.seconds["decode"] += share * (ended - done)


def _read(model: ServiceModel, rows: Sequence[Any], ask: Ask, *, checked: bool) -> list[Record | Rejection]:
    """The rows as records, in order, with those that are rejected in their places."""
    report, entries = ReadReport(), list[Record | Rejection]()
    if checked:
        rows = _with_all_columns(rows, [name for m in model.engine.encoder.modalities.values() for name in m.fields])
    for record in model.sent_records(rows, strictness=ask.strictness, report=report):
        entries += report.rejected
        report.rejected.clear()
        entries.append(record)
    return [*entries, *report.rejected]


def _with_all_columns(rows: Sequence[Any], columns: Sequence[str]) -> list[Any]:
    """The first mapping has them all, so that they are not looked for in these few rows of the request alone."""
    first = next((i for i, row in enumerate(rows) if isinstance(row, Mapping)), None)
    return [{**dict.fromkeys(columns), **row} if i == first else row for i, row in enumerate(rows)]
