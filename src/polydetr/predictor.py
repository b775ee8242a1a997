"""The public class: fit and save, and all that a loaded model can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from polydetr.core.installed import check_torch
from polydetr.core.reading import ReadOptions
from polydetr.errors import ConfigError, Interrupted, PolydetrError, SaveError
from polydetr.inference.model import LoadedModel
from polydetr.inference.proof import MAX_DROP

if TYPE_CHECKING:
    from polydetr.config.sections import Config
    from polydetr.core.runner import Runner
    from polydetr.core.studies import StudyRecord
    from polydetr.engine.engine import Engine
    from polydetr.export.export import Exported
    from polydetr.inference.kept_rows import KeptRows
    from polydetr.inference.proof import Proof
    from polydetr.model.masters import Masters
    from polydetr.model.runner import TorchRunner
    from polydetr.training.callbacks import Display
    from polydetr.training.fit import Trained
    from polydetr.training.tracking import Trackers


class Predictor(LoadedModel):
    """A trained model. Make one with ``Predictor.fit``, ``Predictor.tune`` or ``Predictor.load``."""

    def __init__(
        self,
        engine: Engine,
        manifest: Mapping[str, Any],
        *,
        folder: Path | None = None,
        trained: Trained | None = None,
    ) -> None:
        super().__init__(engine, manifest, folder=folder)
        self._trained = trained
        self.study: StudyRecord | None = None
        """What ``tune`` found."""

    # -- training -----------------------------------------------------------------------------------------------------

    @classmethod
    def fit(
        cls,
        train: Any = None,
        target: str | Sequence[str] | Mapping[str, str | None] | None = None,
        *,
        valid: Any = None,
        test: Any = None,
        unlabelled: Any = None,
        corrections: Any = None,
        inputs: str | Sequence[str] | Mapping[str, str | None] | None = None,
        group: str | None = None,
        out: str | Path | None = None,
        backbone: str | None = None,
        preset: Literal["fast", "balanced", "best"] | None = None,
        epochs: float | None = None,
        time_limit: str | float | None = None,
        seed: int | None = None,
        config: str | Path | Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        reading: ReadOptions | None = None,
        resume: bool = False,
        overwrite: bool = False,
        display: Display | None = None,
    ) -> Predictor:
        """Trains a model on labeled rows, measures it, and saves it when ``out`` is given.

        With ``training.devices`` above 1 the script runs once per device, each time with the predictor that this
        returns; the first process alone writes and shows progress.

        Args:
            train, valid, test: a path, a data frame (pandas, polars, pyarrow) or a list of rows. Without ``valid`` a
                share of the training rows is held out.
            unlabelled: rows without labels, likewise, which help where those with labels are few.
            corrections: rows with corrected labels, likewise (``polydetr corrections export``): a row of the same
                inputs takes them and stays where it is, training or validation; others are added to the training rows.
            target: the column to predict, several, or column → task; inferred when it has a usual name.
            inputs: the columns to read, or column → modality; all others when not given.
            group: a column of which no value stands on both sides when rows are held out (a patient, a day); it is not
                read, unless it is named among ``inputs``.
            out: where the model folder is written; None writes nothing.
            backbone: a name (``polydetr backbones list``), a folder, a Hugging Face id, "none", or "auto".
            time_limit: seconds, or "90s", "10m", "1h30m".
            config: a YAML file or mapping with these same names; arguments given here win.
            settings: further configuration, for example ``{"training": {"lr": 1e-4}}``.
            reading: what the files do not say about themselves; what is given there wins.
            resume: go on from the checkpoint that an interrupted run left beside ``out``.
            overwrite: replace the model that ``out`` holds, at the very end, or the checkpoint of an interrupted run.
            display: shows progress; None draws a progress bar on standard error.

        Raises:
            ConfigError, InputError, BackboneError, SaveError, Interrupted: see ``polydetr.errors``.
        """
        check_torch("training")
        from polydetr.config.loading import config_of_call

        given = {"train": train, "valid": valid, "test": test, "unlabelled": unlabelled, "corrections": corrections}
        resolved = config_of_call(
            given, config, settings, reading, target=target, inputs=inputs, group=group,
            out=None if out is None else str(out), backbone=backbone, preset=preset, epochs=epochs,
            time_limit=time_limit, seed=seed,
        )  # fmt: skip
        from polydetr.model.folder import reserved
        from polydetr.training.callbacks import Display
        from polydetr.training.devices import is_first_process
        from polydetr.training.display import make_display
        from polydetr.training.places import check_told
        from polydetr.training.tracking import tracked

        folder = Path(resolved.out) if resolved.out else None
        shown = (display or make_display()) if is_first_process() else Display()
        with reserved(folder) if folder is not None and is_first_process() else nullcontext():
            if folder is not None and is_first_process():
                check_told(folder, overwrite=overwrite, resume=resume)
            with tracked(resolved, folder, display=shown, resume=resume) as trackers:
                return cls._fitted(resolved, given, folder, resume=resume, shown=shown, trackers=trackers)

    @classmethod
    def tune(
        cls,
        train: Any = None,
        target: str | Sequence[str] | Mapping[str, str | None] | None = None,
        *,
        trials: int | None = None,
        time_limit: str | float | None = None,
        search: Mapping[str, Any] | None = None,
        valid: Any = None,
        test: Any = None,
        unlabelled: Any = None,
        corrections: Any = None,
        inputs: str | Sequence[str] | Mapping[str, str | None] | None = None,
        group: str | None = None,
        out: str | Path | None = None,
        storage: str | None = None,
        name: str | None = None,
        metric: str | None = None,
        keep: int = 3,
        refit: bool = False,
        backbone: str | None = None,
        preset: Literal["fast", "balanced", "best"] | None = None,
        epochs: float | None = None,
        seed: int | None = None,
        config: str | Path | Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        reading: ReadOptions | None = None,
        resume: bool = False,
        overwrite: bool = False,
        display: Display | None = None,
    ) -> Predictor:
        """Searches for better settings: trains with the default, then with others, and saves the best model where rows
        that chose nothing show it to be better; otherwise the default's. ``study`` of what is returned tells the rest,
        and so does ``OUT.study/report.html``. No trial sees the test rows.

        Args:
            trials: trainings in all, the default among them; 20, or as many as ``time_limit`` has room for.
            time_limit: of the whole call: seconds, or "90s", "10m", "1h30m".
            search: what is varied, key by key as in the configuration: ``{"training": {"lr": {"low": 1e-5, "high":
                1e-3, "log": True}, "batch_tokens": [512, 1024]}}``; default: a space that fits tasks and backbones.
            out: the folder of the final model, runs/NAME-DATE by default; beside it ``OUT.study`` holds report,
                database and the models of the best trials.
            storage: where the study is kept for several processes: the name of a file, or
                ``postgresql://USER@HOST/NAME``. name: of the study, by which others join it.
            metric: by which weights and settings are chosen, for example "macro_f1"; default: the first of each target.
            keep: trials whose models stay on the disk, the best ones, beside the default's.
            refit: train the kept settings once more, on the validation rows too.
            resume: go on with the study of this place, or of this name, or begin it where there is none.
            overwrite: replace that study, and the model.
            train, valid, test, unlabelled, corrections, target, inputs, group, backbone, preset, epochs, seed, config,
                settings, reading, display: see ``fit``.

        Raises:
            ConfigError, InputError, BackboneError, StudyError, SaveError, Interrupted: see ``polydetr.errors``.
            PolydetrError: no trial ended well.
        """
        check_torch("training")
        from polydetr.config.loading import config_of_call
        from polydetr.training.display import make_display
        from polydetr.tuning.places import Place
        from polydetr.tuning.tune import TRIALS, tune
        from polydetr.tuning.work import Wanted

        given = {"train": train, "valid": valid, "test": test, "unlabelled": unlabelled, "corrections": corrections}
        resolved = config_of_call(
            given, config, settings, reading, target=target, inputs=inputs, group=group,
            out=None if out is None else str(out), backbone=backbone, preset=preset, epochs=epochs,
            time_limit=time_limit, seed=seed, search=None if search is None else dict(search),
        )  # fmt: skip
        place = Place.of(resolved.out, storage, name, rows=resolved.train, resume=resume)
        most = trials if trials is not None or resolved.time_limit is not None else TRIALS
        wanted, shown = Wanted(most, keep, refit, metric), display or make_display()
        try:
            study = tune(resolved, given, wanted, place, resume=resume, overwrite=overwrite, display=shown)
        except KeyboardInterrupt:
            raise Interrupted("stopped; no trial was begun.") from None
        finally:
            shown.close()
        predictor = cls.load(place.out)
        predictor.study = study
        return predictor

    @classmethod
    def _fitted(
        cls, config: Config, rows: Mapping[str, Any], folder: Path | None, *,
        resume: bool, shown: Display, trackers: Trackers,
    ) -> Predictor:  # fmt: skip
        """``fit``, once the configuration is known. rows: those of each part, None where none were given."""
        from polydetr.config.loading import for_tasks
        from polydetr.inference.folder import LAST, checkpoint_of
        from polydetr.tasks.options import read_options
        from polydetr.training.fit import fit
        from polydetr.training.limited import open_budget
        from polydetr.training.places import compared, earlier_model
        from polydetr.training.read import read_splits
        from polydetr.training.tracked import records_of
        from polydetr.training.tracking import Both

        told = Both(shown, trackers)
        if folder is not None:
            shown.note(f"the model will be saved in {str(folder)!r}")
        budget = open_budget(config, out=folder, resume=resume)
        try:
            splits, schema = read_splits(config, **rows, display=told, budget=budget)
            read_options(config, schema)  # raises before anything takes long
            config = for_tasks(config, [target.task for target in schema.targets])
            trained = fit(config, schema, splits, out=folder, resume=resume, display=told, budget=budget)
            if folder is not None and (earlier := earlier_model(folder)):
                for line in compared(earlier, trained.info):
                    shown.note(line)
        except KeyboardInterrupt:  # while reading or measuring; the training itself says where it stopped
            kept = folder is not None and (checkpoint_of(folder) / LAST).exists()
            hint = "What was trained is kept: go on with --resume (resume=True)." if kept else None
            raise Interrupted("stopped.", hint=hint) from None
        finally:
            shown.close()
        predictor = cls(trained.assembly.engine, trained.info, trained=trained)
        if folder is not None:
            try:
                predictor._saved_in(folder, trained.devices.in_first(lambda: predictor._written_to(folder)))
            except SaveError as error:
                hint = f"{error.hint} The same call with --resume (resume=True) saves it without training again."
                raise SaveError(error.message, hint=hint) from error
        trackers.records(records_of(trained, folder))
        if trained.failure is not None:
            raise _unmeasured(trained.failure, folder) from trained.failure
        trained.checkpoints.discard()
        return predictor

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: str | Path,
        out: str | Path,
        *,
        size: int = 800,
        fit: Literal["stretch", "pad"] = "stretch",
        threshold: float = 0.5,
        overwrite: bool = False,
    ) -> Predictor:
        """A published DETR as it is, without training: writes it into the model folder ``out`` and loads it. It reads a
        column "image" and answers "objects", by the checkpoint's own labels.

        checkpoint: a folder with ``model.safetensors`` (Hugging Face's layout, or the tensors' names of its authors),
            the file itself, or a Hugging Face id. size: pixels per side that the model sees; fit: how an image that is
            not square becomes so. threshold: the lowest score of a box that is answered. overwrite: replace the model
            that ``out`` holds.

        Raises:
            BackboneError: it is no DETR with a ResNet. OutputError, SaveError: ``out`` is taken, or cannot be written.
        """
        check_torch("a published DETR")
        from polydetr.model.checkpoint import import_detr
        from polydetr.training.places import check_told

        check_told(Path(out), overwrite=overwrite, resume=False)
        import_detr(checkpoint, Path(out), size=size, fit=fit, threshold=threshold)
        return cls.load(out)

    # -- folder -------------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the model folder; what was there before is replaced as a whole or not at all.

        Raises:
            SaveError: the disk is full, or the folder holds something that is not a model. ConfigError: the model is an
                exported one, which has no weights.
        """
        self._saved_in(Path(folder), self._written_to(Path(folder)))

    def export(
        self,
        out: str | Path,
        *,
        int8: bool = False,
        rows: Any = None,
        max_drop: float = MAX_DROP,
        overwrite: bool = False,
        reading: ReadOptions = ReadOptions(),
    ) -> Exported:
        """Writes the model to the folder ``out`` as graphs for ONNX Runtime, which ``load`` reads also where PyTorch is
        not installed: the same rows in, the same answers out. Before the folder takes its place, the graphs are
        compared with PyTorch in float32.

        int8: large linear layers multiply 8-bit integers, which is faster and has to be proved: each target's first
            metric, measured in both ways on the same labeled rows, may fall by at most ``max_drop`` points.
        rows: labeled rows to compare by, a path, a data frame or a list; the validation rows that the model folder
            keeps when not given. reading: what a file of rows does not say about itself.
        overwrite: replace the exported model that ``out`` holds; a trained one is never replaced.

        Raises:
            ConfigError: a package is not installed (``pip install "polydetr[export]"``), the model was exported
                already, or 8-bit integers cannot be proved, as there are no rows, or bring nothing. OutputError:
                ``out`` is taken. PolydetrError: the model cannot be exported, or loses more than ``max_drop``.
                SaveError: the folder cannot be written.
        """
        check_torch("exporting")
        from polydetr.export.export import check_export, export_model
        from polydetr.inference.proof import check_max_drop, proved

        check_export(Path(out), self._manifest, overwrite=overwrite)
        check_max_drop(max_drop)
        kept = self._proving_rows(rows, reading=reading) if int8 else self._kept_rows(rows, reading=reading)
        how: dict[str, Any] = {}
        if int8 and kept is not None:
            from polydetr.export.int8 import quantized

            def prove(ours: Runner, theirs: Runner) -> Proof:
                engines = self._engine.with_runner(ours), self._engine.with_runner(theirs)
                return proved(*engines, kept, max_drop=max_drop, how="in 8-bit integers the model answers otherwise")

            how = {"quantized": quantized, "prove": prove}
        return export_model(
            self._engine, self._masters.tensors(), self._manifest, Path(out), overwrite=overwrite,
            examples=kept.examples if kept is not None else None, extra=self._write_reports, **how,
        )  # fmt: skip

    def _kept_rows(self, rows: Any = None, *, reading: ReadOptions = ReadOptions()) -> KeptRows | None:
        """See ``LoadedModel``; a model that was just trained has its rows in memory."""
        if rows is None and self._trained is not None:
            return self._trained.kept
        return super()._kept_rows(rows, reading=reading)

    @property
    def tables(self) -> dict[str, dict[str, str]]:
        """The printed reports of a run that has just ended: split → title → table."""
        splits = self._trained.evaluations if self._trained else {}
        return {
            split: {f"{target} {name}": table for target, e in evaluations.items() for name, table in e.tables.items()}
            for split, evaluations in splits.items()
        }

    # -- inside -------------------------------------------------------------------------------------------------------

    @property
    def _masters(self) -> Masters:
        if "export" in self._manifest:
            raise ConfigError(
                "an exported model has graphs in place of weights.", hint="Copy its folder, or save the trained model."
            )
        masters = cast("TorchRunner", self._engine.runner).masters
        assert masters is not None  # it was trained, or loaded from a folder
        return masters

    def _written_to(self, folder: Path) -> dict[str, Any]:
        """The description in the new folder."""
        from polydetr.model.folder import save_folder

        return save_folder(folder, self._engine, self._masters.tensors(), self._manifest, extra=self._write_reports)

    def _saved_in(self, folder: Path, manifest: dict[str, Any]) -> None:
        from polydetr.inference.folder import WEIGHTS

        self._masters.keep_in(folder / WEIGHTS)
        self.folder, self._manifest = folder, manifest

    def _write_reports(self, folder: Path) -> None:
        if self._trained is not None:
            from polydetr.training.report import write_run_reports

            write_run_reports(folder, self._trained)
        elif self.folder is not None:
            from polydetr.inference.folder import SEAL
            from polydetr.model.folder import copy_reports

            copy_reports(self.folder, folder, seal=self._manifest.get(SEAL))


def _unmeasured(failure: Exception, folder: Path | None) -> PolydetrError:
    """The error of a run that ended behind its training."""
    kept = "its checkpoint is kept" if folder is None else f"the model is saved in {str(folder)!r}"
    kind = "" if isinstance(failure, PolydetrError) else f"{type(failure).__name__}: "
    hint = "The same call with --resume (resume=True) measures it without training again."
    return PolydetrError(f"the training is done and {kept}, but measuring failed: {kind}{failure}", hint=hint)
