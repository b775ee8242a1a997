"""A study in its database: who it is, which trial is next, and what came of each.

Every change of who has a trial happens under a lock (``database.locked``). A trial is written in one piece, with its
settings and its owner; one whose owner is dead is taken up by the next process that asks, with the same number and the
same settings. So none is lost and none is done twice, whenever a process is killed.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from polydetr.core.databases import Address
from polydetr.core.studies import TrialRecord
from polydetr.errors import OutputError, StudyError
from polydetr.tuning.database import locked, open_database, told_as_error
from polydetr.tuning.identity import other_things
from polydetr.tuning.owners import beating, is_alive, is_this_process, this_process, told
from polydetr.tuning.results import RESULT, SETTINGS, curves_of, kept_result, record_of
from polydetr.tuning.sampling import Drawn, default, draw, importances
from polydetr.tuning.space import Space

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from polydetr.training.trials import TrialResult

_IDENTITY, _READING = "polydetr", "reading"
_OWNER, _BEAT = "owner", "beat"


@dataclass(frozen=True)
class Taken:
    """A trial that this process has. again: an earlier process did not end it. others: percent of the run → score, of
    each trial that had run to its end by then. id, token: of the trial in the database, and of this turn at it.
    """

    number: int
    settings: Mapping[str, Any]
    again: bool
    others: Sequence[Mapping[int, float]]
    id: int
    token: str


MOST_TURNS = 5
"""Processes that may be killed over one trial."""
_HELD: set[str] = set()
"""The trials that are trained in this process now: one that an error ended is nobody's, though the process lives."""


class Studies:
    """The studies of one database."""

    def __init__(self, address: Address) -> None:
        """Raises StudyError, SaveError, ConfigError: see ``open_database``."""
        self.address, self.storage = address, open_database(address)

    def reading(self, name: str) -> dict[str, Any] | None:
        """What a time limit decided about the rows, when the study of this name was begun; None where there is none."""
        with told_as_error(self.address):
            found = self._id(name)
            return None if found is None else self.storage.get_study_user_attrs(found).get(_READING, {})

    def remove(self, name: str) -> None:
        """Removes a study of this name, if there is one.

        Raises:
            OutputError: a process works on it.
        """
        with told_as_error(self.address), locked(self.storage, self.address, name):
            if (found := self._id(name)) is None:
                return
            for trial in self.storage.get_all_trials(found, deepcopy=False):
                if not trial.state.is_finished() and _lives(trial):
                    raise OutputError(
                        f"the study {name!r} in {self.address.shown} is being worked on by "
                        f"{told(trial.user_attrs[_OWNER])}.",
                        hint="Wait for it, or name another study.",
                    )
            self.storage.delete_study(found)

    def open(self, name: str, space: Space, identity: Mapping[str, Any], *, reading: Mapping[str, Any]) -> KeptStudy:
        """The study of this name, which is made where there is none.

        identity: see ``identity_of``; reading: see there.

        Raises:
            StudyError: there is one that was made for something else, or by another program.
        """
        from optuna.study import StudyDirection

        with told_as_error(self.address), locked(self.storage, self.address, name):
            found = self._id(name)
            if found is None:
                found = self.storage.create_new_study([StudyDirection.MAXIMIZE], name)
            known = self.storage.get_study_user_attrs(found).get(_IDENTITY)
            if known is None and self.storage.get_n_trials(found):
                raise StudyError(
                    f"the study {name!r} in {self.address.shown} was not made by polydetr.", hint="Name another one."
                )
            if known is None:  # new, or its maker was killed before it wrote this
                self.storage.set_study_user_attr(found, _READING, dict(reading))
                self.storage.set_study_user_attr(found, _IDENTITY, dict(identity))
            elif lines := other_things(identity, known):
                raise StudyError(
                    f"the study {name!r} in {self.address.shown} was made for something else: {'; '.join(lines)}.",
                    hint="Name another one (--name), or replace it: --overwrite (overwrite=True).",
                )
        return KeptStudy(name, self.storage, self.address, found, space, int(identity["seed"]))

    def close(self) -> None:
        """Lets go of the database."""
        self.storage.engine.dispose()

    def _id(self, name: str) -> int | None:
        try:
            return self.storage.get_study_id_from_name(name)
        except KeyError:
            return None


class KeptStudy:
    """A study that is there, and made for what this process does."""

    def __init__(
        self, name: str, storage: RDBStorage, address: Address, study_id: int, space: Space, seed: int
    ) -> None:
        self.name, self.space, self.seed = name, space, seed
        self._storage, self._address, self._id = storage, address, study_id

    def take(self, *, most: int | None) -> Taken | None:
        """The next trial, which is now this process's: one that a dead process left, else a new one, of which there are
        ``most`` at most. None where there is none, at least now (see ``busy``).
        """
        with told_as_error(self._address), locked(self._storage, self._address, self.name):
            trials = self._trials()
            token, curves = secrets.token_hex(8), curves_of(trials)
            owner = {**this_process(), "token": token, "turn": 1}
            _HELD.add(token)
            for trial in trials:
                if not trial.state.is_finished() and not _lives(trial) and self._take_up(trial, owner):
                    return Taken(trial.number, trial.user_attrs[SETTINGS], True, curves, trial._trial_id, token)
            if most is not None and len(trials) >= most:
                return None
            drawn = self._next(trials)
            if drawn is None:
                return None
            made = self._begun(drawn, owner, number=len(trials))
            return Taken(len(trials), drawn.settings, False, curves, made, token)

    def under_way(self) -> list[str]:
        """Who has the trials that did not end: one of them may have died since."""
        with told_as_error(self._address):
            running = [trial for trial in self._trials() if not trial.state.is_finished()]
        return [told(trial.user_attrs[_OWNER]) if trial.user_attrs.get(_OWNER) else "nobody" for trial in running]

    @contextmanager
    def held(self, taken: Taken) -> Iterator[None]:
        """Others see during the block that the trial goes on, on other machines too."""

        def beat(now: float) -> None:
            self._storage.set_trial_user_attr(taken.id, _BEAT, now)

        try:
            with beating(beat):
                yield
        finally:
            _HELD.discard(taken.token)

    def release(self, taken: Taken) -> None:
        """The trial was stopped: whoever goes on begins it anew."""
        with told_as_error(self._address):
            self._storage.set_trial_user_attr(taken.id, _OWNER, None)

    def complete(self, taken: Taken, result: TrialResult, curve: Mapping[int, float]) -> None:
        """Keeps what came of a trial. curve: percent of the run → score, of each evaluation."""
        self._end(taken, "COMPLETE", kept_result(result, curve), score=result.score)

    def pruned(self, taken: Taken, result: TrialResult, curve: Mapping[int, float], *, reason: str) -> None:
        """Keeps how far a trial came. Optuna ranks it by the last that is known of it."""
        last = max(curve)
        self._end(taken, "PRUNED", {**kept_result(result, curve), "reason": reason}, last=(last, curve[last]))

    def failed(self, taken: Taken, *, reason: str, seconds: float) -> None:
        """Keeps why a trial came to nothing."""
        self._end(taken, "FAIL", {"reason": reason, "seconds": seconds})

    def records(self) -> list[TrialRecord]:
        """All trials, by number."""
        with told_as_error(self._address):
            return [record_of(trial) for trial in self._trials()]

    def importances(self) -> dict[str, float]:
        """See ``sampling.importances``."""
        with told_as_error(self._address):
            return importances(self.space, self._trials())

    @contextmanager
    def ending(self) -> Iterator[None]:
        """The block for one process at a time."""
        with locked(self._storage, self._address, f"{self.name} end"):
            yield

    # -- inside -------------------------------------------------------------------------------------------------------

    def _trials(self) -> list[FrozenTrial]:
        return sorted(self._storage.get_all_trials(self._id, deepcopy=False), key=lambda trial: trial.number)

    def _next(self, trials: Sequence[FrozenTrial]) -> Drawn | None:
        if not trials:
            return default(self.space)
        return draw(self.space, trials, [t.user_attrs[SETTINGS] for t in trials], seed=self.seed)

    def _take_up(self, trial: FrozenTrial, owner: Mapping[str, Any]) -> bool:
        """Whether the trial of a dead process is now this one's; one that no process survives is a failure."""
        before = trial.user_attrs.get(_OWNER) or {"turn": 0}  # released: the user stopped it
        turn = int(before["turn"]) + 1
        if turn > MOST_TURNS:
            killed = f"its process was killed {MOST_TURNS} times, perhaps as there was no more memory"
            self._storage.set_trial_user_attr(trial._trial_id, RESULT, {"reason": killed})
            self._storage.set_trial_state_values(trial._trial_id, _state("FAIL"))
            return False
        self._storage.set_trial_user_attr(trial._trial_id, _BEAT, time.time())
        self._storage.set_trial_user_attr(trial._trial_id, _OWNER, {**owner, "turn": turn})
        return True

    def _begun(self, drawn: Drawn, owner: Mapping[str, Any], *, number: int) -> int:
        """Writes a new trial in one piece; its id."""
        from optuna.trial import FrozenTrial, TrialState

        trial = FrozenTrial(
            number=number, state=TrialState.RUNNING, value=None, datetime_start=datetime.now(), datetime_complete=None,
            params=dict(drawn.params), distributions=dict(drawn.distributions),
            user_attrs={SETTINGS: dict(drawn.settings), _OWNER: dict(owner), _BEAT: time.time()},
            system_attrs={}, intermediate_values={}, trial_id=-1,
        )  # fmt: skip
        return self._storage.create_new_trial(self._id, template_trial=trial)

    def _end(
        self, taken: Taken, state: str, result: Mapping[str, Any], *, score: float | None = None,
        last: tuple[int, float] | None = None,
    ) -> None:  # fmt: skip
        """The state comes last: a trial that is killed while this is written is begun anew. What another process took
        up, as this one gave no sign of life for long, is that one's.
        """
        with told_as_error(self._address), locked(self._storage, self._address, self.name):
            now = self._storage.get_trial(taken.id)
            if now.state.is_finished() or (now.user_attrs.get(_OWNER) or {}).get("token") != taken.token:
                return
            if last is not None:
                self._storage.set_trial_intermediate_value(taken.id, *last)
            self._storage.set_trial_user_attr(taken.id, RESULT, json.loads(json.dumps(dict(result), default=float)))
            self._storage.set_trial_state_values(taken.id, _state(state), None if score is None else [score])


def _state(name: str) -> Any:
    from optuna.trial import TrialState

    return TrialState[name]


def _lives(trial: FrozenTrial) -> bool:
    """Whether a process has this trial under way."""
    owner = trial.user_attrs.get(_OWNER)
    if owner is None or not is_alive(owner, trial.user_attrs.get(_BEAT)):
        return False
    return owner.get("token") in _HELD or not is_this_process(owner)
