"""The one training loop: steps, evaluations, best weights, checkpoints, limits; on one device or several.

A step: collate → forward → every task's loss → backward → clip → update. Nothing here knows a task or a
modality by name.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from polydetr.config.sections import Config
from polydetr.core.predictions import Evaluation
from polydetr.data.batching import token_budget_batches
from polydetr.data.store import ExampleStore
from polydetr.errors import Interrupted, PolydetrError
from polydetr.heads.base import TransformsTargets
from polydetr.model.build import Assembly
from polydetr.nn.batch import Batch, Scene, TokenGroup
from polydetr.tasks.capabilities import CountsSteps
from polydetr.training.checkpoint import Checkpoints, Progress, learning_state
from polydetr.training.devices import Devices
from polydetr.training.encode import MeasuredRows, measure
from polydetr.training.optimizer import MasterAdamW, learning_rate_factor
from polydetr.training.perturb import TOKEN_GROUPS, hide_modalities, mix_examples

CHECKPOINT_SECONDS = 60.0
"""The last state is written at most this often, and on stopping: a resumed run repeats the steps since, to the bit."""


@dataclass(frozen=True)
class StepInfo:
    """What a progress display may show after each step."""

    progress: float
    step: int
    epoch: float
    loss: float
    tokens_per_second: float
    remaining_seconds: float
    learning_rate: float


class Display:
    """What a run reports to while it works: silent here, drawn by ``training.display``, logged by
    ``training.tracking``.
    """

    def note(self, message: str) -> None: ...
    def step(self, info: StepInfo) -> None: ...
    def evaluation(self, entry: Mapping[str, Any]) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class ValidScore:
    """One evaluation on the validation rows; ``score`` is what early stopping compares, higher is better."""

    score: float
    loss: float
    evaluations: Mapping[str, Evaluation]


class Loop:
    """Trains the model in place; the weights that did best on the validation rows lie in ``checkpoints``.

    header: kept with every checkpoint; ``header["fingerprint"]`` identifies this run's checkpoints.
    prepared: seconds spent before the first step, which count towards the time limit. displays: get every step and
    every evaluation. start_loss: of the training rows before the first step, where the model already answers then: it
    is measured as it is, so that training never ends with less.
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
        start_loss: float | None = None,
    ) -> None:
        self.assembly, self.optimizer, self.config = assembly, optimizer, config
        self.model, self.engine = assembly.model, assembly.engine
        self.devices, self.checkpoints, self.header = devices, checkpoints, header
        self.prepared = devices.agree(prepared)
        self.displays = displays
        self.start_loss = start_loss
        self.state = Progress()
        self._evaluation_seconds = 0.0
        self._stop = False

    def run(self, train: ExampleStore, valid: MeasuredRows, *, resume: bool) -> Progress:
        """Trains to the last epoch, the time limit, or the end of patience.

        Raises:
            Interrupted: Ctrl-C or a termination signal; the state reached is saved first.
        """
        if resume:
            self._resume()
        with self._signals():
            try:
                self._train(train, valid)
            except KeyboardInterrupt:  # the second Ctrl-C, which does not wait for the step under way
                raise self._interrupted() from None
        return self.state

    def _train(self, train: ExampleStore, valid: MeasuredRows) -> None:
        state = self.state
        started = time.monotonic() - state.seconds
        saved = time.monotonic()
        if self.start_loss is not None and not state.history:
            state.loss_sum, state.loss_count = self.start_loss, 1
            self._evaluate(valid, 1)
        while not state.finished:
            for batch_ids, batches, total_steps in self._rest_of_epoch(train):
                before = self._progress(state.step, total_steps)
                info = self._step(train, batch_ids, total_steps, started, batches=batches)
                for display in self.displays:
                    display.step(info)
                last = self._out_of_time() or info.progress >= 1.0
                if last or self._evaluation_due(batches, before, info.progress):
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
        settings = self.config.training
        world, rank = self.devices.count, self.devices.rank
        batches = token_budget_batches(
            train.lengths, settings.batch_tokens, seed=self.config.seed, epoch=self.state.epoch
        )
        rounds = max(1, len(batches) // world)
        assert self.config.epochs is not None
        for i in range(self.state.batch, rounds):
            steps = float(self.config.steps or 0) if self._counts_steps else 0.0
            yield batches[(i * world + rank) % len(batches)], rounds, max(1.0, rounds * self.config.epochs, steps)

    def _step(
        self, train: ExampleStore, ids: Sequence[int], total_steps: float, started: float, *, batches: int
    ) -> StepInfo:
        began = time.monotonic()
        state, settings = self.state, self.config.training
        progress = self._progress(state.step, total_steps)
        batch = self._augmented(Batch.collate([train[i] for i in ids], ids), progress).to(self.devices.device)
        factor = learning_rate_factor(progress, warmup=settings.warmup, schedule=settings.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self.model.train()
        mixed = mix_examples(batch, dict(self.model.embedders.items()), self._generator(1))
        if mixed is None:
            loss = total_loss(self.assembly, self.model(batch), batch)
        else:
            outputs = self.model(mixed.batch)
            loss = mixed.loss(lambda part: total_loss(self.assembly, outputs, part))
        loss.backward()
        self.devices.average_gradients(p for group in self.optimizer.param_groups for p in group["params"])
        self.optimizer.step()
        self.optimizer.zero_grad()
        value = self._count_step(float(loss.detach()), batch.num_real_tokens, started, began)
        if value != value:
            raise PolydetrError(
                f"the loss is not a number at step {state.step + 1}",
                hint="Lower training.lr, or set training.precision: fp32.",
            )
        state.step, state.batch = state.step + 1, state.batch + 1
        state.loss_sum, state.loss_count = state.loss_sum + value, state.loss_count + 1
        done = self._progress(state.step, total_steps)
        remaining = state.seconds * (1 - done) / max(done, 1e-9)
        epoch = state.epoch + state.batch / batches
        speed = state.tokens / max(state.seconds, 1e-9)
        rate = max(group["lr"] for group in self.optimizer.param_groups)
        return StepInfo(done, state.step, epoch, value, speed, remaining, rate)

    def _count_step(self, loss: float, tokens: int, started: float, began: float) -> float:
        """Counts tokens and time; the mean loss. The same on every device: all tokens, the first one's clock."""
        now = time.monotonic()
        losses, counts, seconds, step_seconds = zip(
            *self.devices.gather([loss, tokens, now - started, now - began]), strict=True
        )
        self.state.tokens += int(sum(counts))
        self.state.seconds, self.state.step_seconds = seconds[0], self.state.step_seconds + step_seconds[0]
        return sum(losses) / len(losses)

    def _stop_or_save(self, *, due: bool) -> tuple[bool, bool]:
        """Whether a signal came, to any device, and whether a checkpoint is due by the first one's clock."""
        signals, dues = zip(*self.devices.gather([self._stop, due]), strict=True)
        return any(signals), bool(dues[0])

    def _augmented(self, batch: Batch, progress: float) -> Batch:
        """The batch as this step sees it: augmented, some modalities hidden; the same for the same seed and step."""
        generator, groups, targets = self._generator(0), {}, dict(batch.targets)
        positives: dict[str, TokenGroup] = {}
        for name, group in batch.groups.items():
            groups[name], scene = self.model.embedder_of(name).augment(group, generator, progress=progress)
            if scene is not None:
                targets = {t: self._transformed(t, tensors, scene) for t, tensors in targets.items()}
        for target, group in batch.positives.items():
            embedder = self.model.embedder_of(self.model.positive_side(target))
            positives[target], _ = embedder.augment(group, generator, progress=progress)
        return hide_modalities(
            replace(batch, groups=groups, targets=targets, positives=positives),
            self.config.training.modality_dropout,
            generator,
            keep=TOKEN_GROUPS if any(task.per_token for task in self.engine.tasks.values()) else (),
        )

    def _transformed(self, target: str, tensors: Mapping[str, Tensor], scene: Scene) -> Mapping[str, Tensor]:
        head = self.model.head_of(target)
        return head.transform_targets(tensors, scene) if isinstance(head, TransformsTargets) else tensors

    def _generator(self, purpose: int) -> torch.Generator:
        """Random numbers that are the same in a resumed run: by seed, step, purpose, and the device's rank."""
        by_step = (self.config.seed * 1_000_003 + self.state.step) * 2 + purpose
        return torch.Generator().manual_seed(by_step + self.devices.rank * 1_000_000_007)

    @property
    def _training_limit(self) -> float:
        """Seconds for steps: what preparing took is spent, and the last evaluations need about three of theirs."""
        assert self.config.time_limit is not None
        return max(1e-3, self.config.time_limit - self.prepared - 3 * self._evaluation_seconds)

    def _progress(self, step: int, total_steps: float) -> float:
        """0 … 1, by steps, or by the clock where the time limit will come first; the last step may outlast it."""
        by_steps = step / total_steps
        by_clock = self.state.seconds / self._training_limit if self.config.time_limit else 0.0
        return min(1.0, max(by_steps, by_clock))

    def _out_of_time(self) -> bool:
        return self.config.time_limit is not None and self.state.seconds >= self._training_limit

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
        if self._counts_steps:
            times = self._evaluations_per_run
            return int(progress * times) > int(before * times)
        times, done = min(self.config.training.evaluations_per_epoch, batches), self.state.batch
        return done * times // batches > (done - 1) * times // batches

    def _evaluate(self, valid: MeasuredRows, batches: int) -> None:
        state = self.state
        started = time.monotonic()
        with self.optimizer.averaged():
            result = validate(self.assembly, valid)
        self._evaluation_seconds = max(self._evaluation_seconds, time.monotonic() - started)
        entry, self._evaluation_seconds = self.devices.agree((self._entry(result, batches), self._evaluation_seconds))
        state.loss_sum, state.loss_count = 0.0, 0
        state.history.append(entry)
        score, loss = entry["score"], entry["valid_loss"]
        # Few validation rows soon reach the same score: of equal scores the lower loss is the better model.
        if state.best is None or (score, -loss) > (state.best, -state.best_loss):
            state.best, state.best_loss, state.best_step, state.stale = score, loss, state.step, 0
            self.checkpoints.save_best(self._learned())
        else:
            state.stale += 1
        # Boxes become exact at the end, when the steps are small: no evaluation before shows when to stop.
        patience = 0 if self._counts_steps else self.config.training.patience
        state.finished = patience > 0 and state.stale >= patience
        for display in self.displays:
            display.evaluation(entry)

    def _entry(self, result: ValidScore, batches: int) -> dict[str, Any]:
        """One evaluation, as the history keeps it."""
        state = self.state
        return {
            "step": state.step,
            "epoch": round(state.epoch + state.batch / batches, 3),
            "seconds": round(state.seconds, 1),
            "train_loss": state.loss_sum / max(1, state.loss_count),
            "valid_loss": result.loss,
            "metrics": {target: dict(e.metrics) for target, e in result.evaluations.items()},
            "score": result.score,
        }

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _learned(self) -> dict[str, Tensor]:
        """What is to be kept, in fp32: the running mean where that is on, or else the optimizer's masters."""
        kept = self.optimizer.state_tensors()
        weights = learning_state(self.model)
        for name in weights:
            weights[name] = next((kept[k + name] for k in ("ema/", "master/") if k + name in kept), weights[name])
        return weights

    def _save(self) -> None:
        model, optimizer = learning_state(self.model), self.optimizer.state_tensors()
        self.checkpoints.save_last(self.state, model, optimizer, header=self.header)

    def _resume(self) -> None:
        self.state, model, optimizer = self.checkpoints.load_last(self.header["fingerprint"])
        self.model.load_state_dict(model, strict=False)  # frozen parameters are as they were built
        self.optimizer.load_state_tensors(optimizer)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and termination end the run after the step under way, not inside it; a second Ctrl-C at once."""

        def handle(number: int, frame: Any) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = True

        try:
            before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not the main thread: whoever owns it handles signals
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def total_loss(assembly: Assembly, outputs: Mapping[str, Mapping[str, Tensor]], batch: Batch) -> Tensor:
    """All tasks' losses on one batch as one number."""
    model, tasks = assembly.model, assembly.engine.tasks
    terms = {t: model.head_of(t).loss(outputs[t], batch.targets[t], batch.weights) for t in tasks}
    return model.total_loss(terms, tasks)


def validate(assembly: Assembly, rows: MeasuredRows) -> ValidScore:
    """Loss and metrics on ``rows``, through the same path as prediction."""
    losses: list[tuple[float, int]] = []

    def collect(outputs: Mapping[str, Mapping[str, Tensor]], batch: Batch) -> None:
        if batch.targets:  # not the positives, which are embedded by themselves
            losses.append((float(total_loss(assembly, outputs, batch)), len(batch.weights)))

    assembly.model.eval()
    engine = assembly.engine.with_runner(assembly.runner.listened_by(collect))
    _, evaluations = measure(engine, rows)
    scores = []
    for target, evaluation in evaluations.items():
        task = engine.tasks[target]
        value = evaluation.metrics[task.primary_metric]
        scores.append(-value if task.lower_is_better else value)
    count = sum(n for _, n in losses)
    return ValidScore(sum(scores) / len(scores), sum(v * n for v, n in losses) / max(1, count), evaluations)
