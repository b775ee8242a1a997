"""The ways to compute a model, measured; the choice in its folder, and who obeys it."""

from __future__ import annotations

import json
import re
import warnings

import pytest

from film_models import SETTINGS, Quiet, plain_rows
from polydetr import Predictor
from polydetr.cli import main
from polydetr.core import machine
from polydetr.errors import ConfigError
from polydetr.inference import optimize as room
from polydetr.inference.folder import OPTIMIZED
from polydetr.inference.optimize import Timing
from polydetr.inference.optimized import FORMAT, OptimizedWarning, Way, read_way, write_way
from polydetr.inference.proof import Change, Proof

ROWS = plain_rows(12, start=100)


@pytest.fixture(scope="module", autouse=True)
def _few_rounds():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "ROUNDS", 3)
        patch.setattr(room, "BATCHES", (64, 128))
        patch.setattr(room, "_thread_counts", lambda most: [1, 2])
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    base = tmp_path_factory.mktemp("optimize")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(base / "cache"))
        Predictor.fit(
            plain_rows(40), "label", valid=ROWS, out=base / "films", backbone="none", epochs=2, settings=SETTINGS,
            display=Quiet(),
        )  # fmt: skip
        yield base / "films"


@pytest.fixture
def model(folder, tmp_path):
    """A copy without a choice."""
    Predictor.load(folder).save(tmp_path / "m")
    return tmp_path / "m"


def way_of(model: Predictor) -> tuple[str, int, int]:
    runner = model._engine.runner
    return runner.precision, runner.threads, runner.batch_tokens


def chosen(folder, **way: object) -> Way:
    """Writes a choice into the folder."""
    found = Way(**{"runner": "torch", "precision": "fp32", "threads": 1, "batch_tokens": 77, **way})
    loaded = Predictor.load(folder, precision="fp32")
    write_way(folder, loaded.info, found, [], computes_on=loaded._engine.runner.computes_on)
    return found


def test_ways_are_measured_and_the_choice_is_obeyed(model):
    usual = way_of(Predictor.load(model))
    told: list[str] = []
    found = Predictor.optimize(model, progress=told.append)
    assert told
    ways = {(t.way.precision, t.way.threads, t.way.batch_tokens) for t in found.timings}
    assert {("fp32", 1, usual[2]), ("fp32", 2, usual[2]), usual} <= ways
    assert {size for _, _, size in ways} >= {64, 128}
    assert all(t.rows_per_second > 0 and t.times > 0 for t in found.timings)
    assert all(t.proof.rows == 12 and t.proof.worst.metric == "accuracy" for t in found.timings)
    assert [t.times for t in found.timings] == sorted((t.times for t in found.timings), reverse=True)
    kept = json.loads((model / OPTIMIZED).read_text())
    assert kept["way"] == found.chosen.model_dump()
    assert len(kept["measured"]) == len(found.timings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = Predictor.load(model)
    assert way_of(again) == (found.chosen.precision, found.chosen.threads, found.chosen.batch_tokens)
    (measured,) = [t.metrics["label"] for t in found.timings if t.way == found.chosen]
    assert again.evaluate(ROWS)["label"]["accuracy"] == pytest.approx(measured)


def test_named_precision_is_not_overruled(model):
    chosen(model)
    assert way_of(Predictor.load(model)) == ("fp32", 1, 77)
    assert way_of(Predictor.load(model, precision="fp32"))[2] != 77


def test_the_default_stays_where_nothing_is_worth_it_and_worse_answers_are_not_taken():
    usual = Way(runner="torch", precision="fp32", threads=1, batch_tokens=512)
    fast = usual.model_copy(update={"precision": "int8"})
    same = Proof(10, (Change("y", "accuracy", 0.9, 0.9, 0.0),), 0.0)
    worse = Proof(10, (Change("y", "accuracy", 0.9, 0.89, 1.0),), 0.1)

    def best(times: float, proof: Proof) -> Way:
        return room._best([Timing(usual, 10, 1.0, {}, same), Timing(fast, 10, times, {}, proof)], usual).way

    assert best(1.04, same) == usual
    assert best(1.2, same) == fast
    assert best(3.0, worse) == usual


def elsewhere(monkeypatch):
    monkeypatch.setattr("polydetr.inference.optimized.machine", lambda: {"cpu": "Other", "model": "7", "cores": "64"})


def test_another_machine_says_so(model, monkeypatch):
    usual = way_of(Predictor.load(model))
    chosen(model)
    elsewhere(monkeypatch)
    with pytest.warns(OptimizedWarning, match=r"measured on .*, and is not obeyed on Other \(model 7, cores 64\)"):
        assert way_of(Predictor.load(model)) == usual


def sealed_again(path, change):
    from polydetr.inference.optimized import _checksum

    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps({**content, "sha256": _checksum(content)}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_text("{"), "cannot be read"),
        (lambda path: path.write_text("[1]"), "damaged"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda path: path.write_text(path.read_text().replace('"threads": 1', '"threads": 2')), "damaged"),
        (lambda path: sealed_again(path, lambda c: c["way"].update(threads=0)), "threads"),
        (lambda path: sealed_again(path, lambda c: c["way"].update(precision="fp4")), "precision"),
        (lambda path: sealed_again(path, lambda c: c.update(format=FORMAT + 1)), "newer version"),
        (lambda path: sealed_again(path, lambda c: c.update(of="0" * 64)), "another model"),
        (lambda path: sealed_again(path, lambda c: c["way"].update(runner="onnx")), "not computed by"),
        (
            lambda path: sealed_again(path, lambda c: c.update(computes_on="torch 2.9.0, H200")),
            "measured with torch 2.9.0",
        ),
    ],
)
def test_what_does_not_hold_is_told_and_the_default_taken(model, damage, said):
    usual = way_of(Predictor.load(model))
    chosen(model)
    damage(model / OPTIMIZED)
    with pytest.warns(OptimizedWarning, match=said):
        assert way_of(Predictor.load(model)) == usual


def test_a_process_with_fewer_cores_takes_as_many_threads_as_it_has(model, monkeypatch):
    chosen(model, threads=4)
    sealed_again(model / OPTIMIZED, lambda c: c["machine"].update(cores="4"))

    def with_cores(count: int) -> tuple[str, int, int]:
        here = {**machine.processor(), "cores": str(count)}
        monkeypatch.setattr("polydetr.inference.optimized.machine", lambda: here)
        return way_of(Predictor.load(model))

    assert [with_cores(count) for count in (1, 3, 4)] == [("fp32", count, 77) for count in (1, 3, 4)]
    with pytest.warns(OptimizedWarning, match=r"measured on .*cores 4.*, and is not obeyed on .*cores 8"):
        with_cores(8)


def test_what_earlier_versions_wrote_holds_for_any_library(model):
    chosen(model)
    sealed_again(model / OPTIMIZED, lambda c: c.pop("computes_on"))
    assert way_of(Predictor.load(model)) == ("fp32", 1, 77)


def test_a_choice_that_no_longer_works_is_told(model):
    usual = way_of(Predictor.load(model))
    chosen(model, precision="int8")  # no text encoder here computes in it
    with pytest.warns(OptimizedWarning, match="'int8' cannot be had"):
        assert way_of(Predictor.load(model)) == usual


def test_a_model_trained_anew_does_not_inherit_it(model):
    chosen(model)
    Predictor.load(model, precision="fp32").save(model)
    assert not (model / OPTIMIZED).exists()


def test_without_rows_it_is_refused_with_both_remedies(model, monkeypatch):
    monkeypatch.setattr("polydetr.inference.model.read_rows", lambda folder, tasks: None)
    with pytest.raises(ConfigError, match="no labeled rows") as told:
        Predictor.optimize(model)
    assert "--rows FILE" in str(told.value.hint)
    assert Predictor.optimize(model, plain_rows(5, start=300)).rows == 5


def test_the_command(model, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["polydetr", "optimize", str(model), "--json"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    out = json.loads(capsys.readouterr().out)
    assert out["chosen"] in [{k: way[k] for k in out["chosen"]} for way in out["ways"]]
    monkeypatch.setattr("sys.argv", ["polydetr", "optimize", str(model)])
    with pytest.raises(SystemExit):
        main()
    printed = capsys.readouterr().out
    assert "rows/s" in printed
    assert "* PyTorch " in printed


def test_an_exported_model_is_measured_too(folder, tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    Predictor.load(folder, precision="fp32").export(tmp_path / "onnx")
    loaded = Predictor.load(tmp_path / "onnx")
    found = Predictor.optimize(tmp_path / "onnx")
    assert {t.way.runner for t in found.timings} == {"onnx"}
    assert {t.way.threads for t in found.timings} == {1, 2}  # of which it has perhaps one
    choice, _ = read_way(tmp_path / "onnx", loaded.info)
    assert choice is not None
    assert choice.way == found.chosen
    assert choice.computes_on == loaded._engine.runner.computes_on
    assert re.fullmatch(r"onnxruntime [\d.]+, cpu", choice.computes_on)
    # Which count was the faster is the machine's affair; no runner has more threads than there are.
    expected = min(found.chosen.threads, way_of(loaded)[1])
    assert way_of(Predictor.load(tmp_path / "onnx"))[1] == expected


def test_a_machine_is_told_by_its_processor(tmp_path, monkeypatch):
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 207\nmodel name\t: Xeon\n"
        "flags\t\t: fpu avx2 amx_int8 avx512_vnni\n\nprocessor\t: 1\n"
    )
    monkeypatch.setattr(machine, "_CPUINFO", info)
    found = machine.processor.__wrapped__()
    assert found == {"cpu": "Xeon", "family": "6", "model": "207", "instructions": "avx2 avx512_vnni amx_int8"}
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "none")
    assert machine.processor.__wrapped__()["cpu"]
