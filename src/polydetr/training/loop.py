"""The one training loop: steps, evaluations, best weights, checkpoints, limits; on one device or several.

A step: collate → forward → every task's loss → backward → clip → update. Nothing here knows a task or a
modality by name.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from polydetr.config.sections import Config
from polydetr.data.batching import token_budget_batches
from polydetr.data.store import ExampleStore
from polydetr.errors import Interrupted, PolydetrError
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch
from polydetr.tasks.capabilities import CountsSteps
from polydetr.training.callbacks import Display, Pruned, StepInfo
from polydetr.training.checkpoint import Checkpoints, Progress, learning_state
from polydetr.training.devices import Devices
from polydetr.training.encode import MeasuredRows
from polydetr.training.objective import UNSCORED, ValidScore, rank_of, surely_less, total_loss, validate
from polydetr.training.optimizer import MasterAdamW, learning_rate_factor
from polydetr.training.pacing import EVALUATIONS, PATIENCE, Pace, pace
from polydetr.training.perturb import TOKEN_GROUPS, augmented, hide_modalities, mix_examples
from polydetr.training.shares import BatchShares
from polydetr.training.signals import StopRequest, asked_to_stop

CHECKPOINT_SECONDS = 60.0
"""The last state is written at most this often, and on stopping: a resumed run repeats the steps since, to the bit."""
STEPS_PER_EVALUATION = 4.0
"""Under a time limit, seconds of steps at least for each that evaluating takes."""
EVALUATION_SHARE, LEAST_EVALUATED = 0.1, 8
"""Of a time limit, what one evaluation may take, and the documents that it measures at least."""
LEAST_SHARE = 0.05
"""Of a time limit, what steps get where everything else took the whole of it."""
PARTS = 20
"""Of the validation rows, by whose losses the start is compared with what comes after it."""


class Loop:
    """Trains the model in place; the weights that did best on the validation rows lie in ``checkpoints``.

    header: kept with every checkpoint; ``header["fingerprint"]`` identifies this run's checkpoints.
    prepared: seconds spent before the first step, which count towards the time limit. reserve: measured seconds per
    document that is answered (0 before the first) → seconds of the limit for all that comes after the last evaluation.
    displays: get every step and every evaluation. looks_first: the weights that it begins with are worth measuring;
    start_margin: standard errors by which the loss of others must be less; None: they need not be better in anything.
    on_evaluation: is asked after each evaluation, with its entry of the history; True ends the run, which raises
    ``Pruned``. until: the step after which the run ends, with the weights of then, and the steps of its whole schedule:
    no validation row is answered.
    """

    def __init__(
        self,
        assembly: Assembly,
        optimizer: MasterAdamW,
        config: Config,
        *,
        devices: Devices,
        checkpoints: Checkpoints,
        header: Mapping[str, Any],
        prepared: float,
        displays: Sequence[Display],
        looks_first: bool = False,
        start_margin: float | None = None,
        reserve: Callable[[float], float] = lambda pace: 0.0,
        on_evaluation: Callable[[Mapping[str, Any]], bool] = lambda entry: False,
        until: tuple[int, float] | None = None,
    ) -> None:
        self.assembly, self.optimizer, self.config = assembly, optimizer, config
        self.model, self.engine = assembly.model, assembly.engine
        self.devices, self.checkpoints, self.header = devices, checkpoints, header
        self.prepared = devices.agree(prepared)
        self.displays = displays
        self.state = Progress()
        self.looks_first, self.start_margin = looks_first, start_margin
        self._on_evaluation, self._until, self._done = on_evaluation, until, 0.0
        self._reserve, self._reserved = reserve, devices.agree(reserve(0.0))
        self._answer_seconds = self._evaluation_seconds = self._last_step = self._evaluated = 0.0
        self._step_of_valid = 1
        self._stop = StopRequest()
        self._pace = Pace(config.training.batch_tokens, 0)

    def run(self, train: ExampleStore, valid: MeasuredRows, *, resume: bool) -> Progress:
        """Trains to the last epoch, the time limit, or the end of patience.

        Raises:
            Interrupted: Ctrl-C or a termination signal; the state reached is saved first.
        """
        if resume:
            self._resume()
        with asked_to_stop() as self._stop:
            try:
                self._train(train, valid)
            except KeyboardInterrupt:  # the second Ctrl-C, which does not wait for the step under way
                raise self._interrupted() from None
        return self.state

    def _train(self, train: ExampleStore, valid: MeasuredRows) -> None:
        state = self.state
        shares = BatchShares({target: self.model.head_of(target) for target in self.engine.tasks}, train)
        self._pace = self._paced(train)
        started = time.monotonic() - state.seconds
        saved = time.monotonic()
        if self._until is not None and self._until[0] <= state.step:
            self._keep_last()
        elif self._until is None and self.looks_first and not state.history:
            self._look_first(train, valid)
        while not state.finished:
            for batch_ids, batches, total_steps in self._rest_of_epoch(train):
                before = self._progress(state.step, total_steps)
                info = self._step(train, batch_ids, total_steps, started, batches=batches, shares=shares)
                for display in self.displays:
                    display.step(info)
                self._done = info.progress
                last = self._out_of_time() or info.progress >= 1.0
                if self._until is not None:
                    if last or info.step >= self._until[0]:
                        self._keep_last()
                elif last or self._evaluation_due(batches, before, info.progress):
                    self._evaluate(valid, batches)
                    state.finished = state.finished or last
                stop, due = self._stop_or_save(due=time.monotonic() - saved > CHECKPOINT_SECONDS)
                if state.finished or stop or due:
                    self._save()
                    saved = time.monotonic()
                if state.finished:
                    break
                if stop:
                    raise self._interrupted()
            else:
                state.epoch, state.batch = state.epoch + 1, 0

    def _look_first(self, train: ExampleStore, valid: MeasuredRows) -> None:
        """Measures the weights that the run begins with, which may be the best; the training loss is of one batch."""
        ids, batches, _ = next(self._rest_of_epoch(train))
        batch = Batch.collate([train[i] for i in ids], ids).to(self.devices.device)
        self.model.eval()
        with torch.no_grad():
            loss = float(total_loss(self.assembly, self.model(batch, last_only=False), batch))
        self.state.loss_sum, self.state.loss_count = loss, 1
        self._evaluate(valid, batches)

    def _interrupted(self) -> Interrupted:
        if not self.checkpoints.exists():
            return Interrupted(f"stopped after {self.state.step} steps, before the first checkpoint; nothing is kept.")
        kept = self.checkpoints.header()["progress"]["step"]
        return Interrupted(
            f"stopped after {self.state.step} steps; the state of step {kept} is kept in "
            f"{str(self.checkpoints.folder)!r}.",
            hint="Go on with the same call and --resume (resume=True).",
        )

    # -- one step -----------------------------------------------------------------------------------------------------

    def _rest_of_epoch(self, train: ExampleStore) -> Iterator[tuple[list[int], int, float]]:
        """(example numbers, batches per epoch, steps of the run) of the batches left in the epoch; each rank has its
        share.
        """
        world, rank = self.devices.count, self.devices.rank
        batches = token_budget_batches(train.lengths, self._pace.budget, seed=self.config.seed, epoch=self.state.epoch)
        rounds = max(1, len(batches) // world)
        assert self.config.epochs is not None
        for i in range(self.state.batch, rounds):
            steps = float(self.config.steps or 0) if self._counts_steps else self._pace.steps
            total = max(1.0, rounds * self.config.epochs, steps) if self._until is None else self._until[1]
            yield batches[(i * world + rank) % len(batches)], rounds, total

    def _paced(self, train: ExampleStore) -> Pace:
        settings = self.config.training
        assert self.config.epochs is not None
        if self._counts_steps:
            return Pace(settings.batch_tokens, 0)
        return pace(
            train.lengths, batch_tokens=settings.batch_tokens, epochs=self.config.epochs, min_steps=settings.min_steps,
            pretrained=any(m.is_pretrained for m in self.engine.encoder.modalities.values()),
            as_given="batch_tokens" in settings.model_fields_set,
        )  # fmt: skip

    def _step(
        self,
        train: ExampleStore,
        ids: Sequence[int],
        total_steps: float,
        started: float,
        *,
        batches: int,
        shares: BatchShares,
    ) -> StepInfo:
        began = time.monotonic()
        state, settings = self.state, self.config.training
        progress = self._progress(state.step, total_steps)
        batch = self._augmented(Batch.collate([train[i] for i in ids], ids), progress).to(self.devices.device)
        factor = learning_rate_factor(progress, warmup=settings.warmup, schedule=settings.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.model.train()
        self.model.open_gate(progress / settings.warmup if settings.warmup else 1.0)
        share = shares.of(batch, mean_examples=len(train) / (batches * self.devices.count))
        mixed = mix_examples(batch, dict(self.model.embedders.items()), self._generator(1))
        if mixed is None:
            loss = total_loss(self.assembly, self.model(batch), batch, share=share)
        else:
            outputs = self.model(mixed.batch)
            loss = mixed.loss(lambda part: total_loss(self.assembly, outputs, part, share=share))
        loss.backward()
        self.devices.average_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        self.optimizer.step()
        self.optimizer.zero_grad()
        value = self._count_step(float(loss.detach()), batch.num_real_tokens, len(ids), started, began)
        if value != value:
            raise PolydetrError(
                f"the loss is not a number at step {state.step + 1}",
                hint="Lower training.lr, or set training.precision: fp32.",
            )
        state.step, state.batch = state.step + 1, state.batch + 1
        state.loss_sum, state.loss_count = state.loss_sum + value, state.loss_count + 1
        state.add_loss(value)
        done = self._progress(state.step, total_steps)
        remaining = state.seconds * (1 - done) / max(done, 1e-9)
        epoch = state.epoch + state.batch / batches
        speed = state.tokens / max(state.seconds, 1e-9)
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        return StepInfo(done, state.step, epoch, value, speed, self._pace_told(), remaining, rate)

    def _pace_told(self) -> str:
        units = {modality.paced_in for modality in self.engine.encoder.read.values()}
        unit = units.pop() if len(units) == 1 else "tokens"
        count = self.state.tokens if unit == "tokens" else self.state.rows
        return f"{count / max(self.state.seconds, 1e-9):,.{0 if unit == 'tokens' else 1}f} {unit}/s"

    def _count_step(self, loss: float, tokens: int, rows: int, started: float, began: float) -> float:
        """Counts tokens, rows and time; the mean loss. The same on every device: all tokens, the first one's clock."""
        now = time.monotonic()
        losses, counts, row_counts, seconds, step_seconds = zip(
            *self.devices.gather([loss, tokens, rows, now - started, now - began]), strict=True
        )
        self.state.tokens += int(sum(counts))
        self.state.rows += int(sum(row_counts))
        self.state.seconds, self.state.step_seconds = seconds[0], self.state.step_seconds + step_seconds[0]
        self._last_step = step_seconds[0]
        return sum(losses) / len(losses)

    def _stop_or_save(self, *, due: bool) -> tuple[bool, bool]:
        """Whether a signal came, to any device, and whether a checkpoint is due by the first one's clock."""
        signals, dues = zip(*self.devices.gather([self._stop.wanted, due]), strict=True)
        return any(signals), bool(dues[0])

    def _augmented(self, batch: Batch, progress: float) -> Batch:
        """The batch as this step sees it: augmented, some modalities hidden; the same for the same seed and step."""
        generator = self._generator(0)
        return hide_modalities(
            augmented(batch, self.model, generator, progress=progress),
            self.config.training.modality_dropout,
            generator,
            keep=TOKEN_GROUPS if any(task.per_token for task in self.engine.tasks.values()) else (),
        )

    def _generator(self, purpose: int) -> torch.Generator:
        """Random numbers that are the same in a resumed run: by seed, step, purpose, and the device's rank."""
        by_step = (self.config.seed * 1_000_003 + self.state.step) * 2 + purpose
        return torch.Generator().manual_seed(by_step + self.devices.rank * 1_000_000_007)

    @property
    def _training_limit(self) -> float:
        """Seconds for steps: what preparing took is spent, and measuring and saving need theirs."""
        assert self.config.time_limit is not None
        limit = self.config.time_limit
        return max(LEAST_SHARE * limit, limit - self.prepared - self._reserved)

    def _progress(self, step: int, total_steps: float) -> float:
        """0 … 1, by steps, or by the clock where the time limit will come first."""
        by_steps = step / total_steps
        return min(1.0, max(by_steps, self._by_clock()))

    def _by_clock(self) -> float:
        """The share of the time that is over, or would be after half of another step."""
        if self.config.time_limit is None:
            return 0.0
        return (self.state.seconds + self._last_step / 2) / self._training_limit

    def _out_of_time(self) -> bool:
        return self._by_clock() >= 1.0

    # -- evaluation ---------------------------------------------------------------------------------------------------

    @property
    def _counts_steps(self) -> bool:
        return self.config.steps is not None and self._evaluations_per_run > 0

    @property
    def _evaluations_per_run(self) -> int:
        """Of the tasks that count in steps, whose epochs may be a few batches long; 0 where there is none."""
        counted = [t.evaluations_per_run for t in self.engine.tasks.values() if isinstance(t, CountsSteps)]
        return max(counted, default=0)

    def _evaluation_due(self, batches: int, before: float, progress: float) -> bool:
        if (
            self.config.time_limit
            and self.state.seconds - self._evaluated < STEPS_PER_EVALUATION * self._evaluation_seconds
        ):
            return False
        if self._counts_steps or self._pace.steps:
            times = self._evaluations_per_run if self._counts_steps else EVALUATIONS
            return int(progress * times) > int(before * times)
        times, done = min(self.config.training.evaluations_per_epoch, batches), self.state.batch
        return done * times // batches > (done - 1) * times // batches

    def _evaluate(self, valid: MeasuredRows, batches: int) -> None:
        state = self.state
        started = time.monotonic()
        valid = self._affordable(valid)
        with self.optimizer.averaged():
            result = validate(self.assembly, valid, parts=PARTS if self.start_margin else 0)
        took = time.monotonic() - started
        pace = took / len(valid.documents)
        entry, losses, self._evaluation_seconds, self._answer_seconds, self._reserved = self.devices.agree(
            (self._entry(result, batches), [*result.parts], took, pace, self._reserve(pace) + took)
        )
        self._evaluated = state.seconds + took
        state.loss_sum, state.loss_count = 0.0, 0
        state.history.append(entry)
        if entry["step"] == 0:
            state.start_losses = losses
        rank = rank_of(entry)
        if self._beats_start(entry, losses) and (state.best is None or rank > (state.best, -state.best_loss)):
            state.best, state.best_loss, state.best_step, state.stale = rank[0], -rank[1], state.step, 0
            self.checkpoints.save_best(self._learned())
        else:
            state.stale += 1
        if rank[0] == -math.inf and all(math.isfinite(one["score"]) for one in state.history[:-1]):
            for display in self.displays:
                display.note(UNSCORED)
        # Boxes become exact at the end, when the steps are small: no evaluation before shows when to stop.
        patience = 0 if self._counts_steps else self.config.training.patience
        patience = max(patience, PATIENCE) if patience and self._pace.steps else patience
        state.finished = patience > 0 and state.stale >= patience
        for display in self.displays:
            display.evaluation(entry)
        if self._on_evaluation(entry):
            raise Pruned

    def _keep_last(self) -> None:
        """Ends the run with the weights that it has now."""
        self.state.best_step, self.state.finished = self.state.step, True
        self.checkpoints.save_best(self._learned())

    def _beats_start(self, entry: Mapping[str, Any], losses: Sequence[float]) -> bool:
        """Whether neither score nor loss is worse than at the start, where that was measured, and the loss is less by
        the margin: what was fitted at once rests on few weights, while one of many evaluations does better on few rows
        by luck. losses: of parts of the rows.
        """
        start = self.state.history[0]
        if self.start_margin is None or start is entry or start["step"] > 0:
            return True
        # Nothing is worse than what is not a number, nor the other way round.
        if entry["score"] < start["score"] or entry["valid_loss"] > start["valid_loss"]:
            return False
        # Of other rows than at the start (``_affordable``) the parts are not the same.
        told = self.start_margin > 0 and self._step_of_valid == 1
        return not told or surely_less(losses, self.state.start_losses, errors=self.start_margin)

    def _affordable(self, valid: MeasuredRows) -> MeasuredRows:
        """The rows, or under a time limit every so many of them where answering has become slow: scores of other rows
        are not compared, so that the best weights are then those from here on.
        """
        share = EVALUATION_SHARE * (self.config.time_limit or float("inf"))
        count = len(valid.documents)
        step = min(int(self._answer_seconds * count / share) + 1, max(1, count // LEAST_EVALUATED))
        if step > self._step_of_valid:
            self._step_of_valid, self.state.best = step, None
        return valid.every(self._step_of_valid) if self._step_of_valid > 1 else valid

    def _entry(self, result: ValidScore, batches: int) -> dict[str, Any]:
        """One evaluation, as the history keeps it."""
        state = self.state
        return {
            "step": state.step,
            "progress": round(self._done, 4),
            "epoch": round(state.epoch + state.batch / batches, 3),
            "seconds": round(state.seconds, 1),
            "train_loss": state.loss_sum / max(1, state.loss_count),
            "valid_loss": result.loss,
            "metrics": {target: dict(e.metrics) for target, e in result.evaluations.items()},
            "score": result.score,
        }

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _learned(self) -> dict[str, Tensor]:
        """What is to be kept, in fp32."""
        return learning_state(self.model) | self.optimizer.learned()

    def _save(self) -> None:
        model, optimizer = learning_state(self.model), self.optimizer.state_tensors()
        self.checkpoints.save_last(self.state, model, optimizer, header=self.header)

    def _resume(self) -> None:
        self.state, model, optimizer = self.checkpoints.load_last(self.header["fingerprint"])
        self.model.load_state_dict(model, strict=False)  # frozen parameters are as they were built
        self.optimizer.load_state_tensors(optimizer)
