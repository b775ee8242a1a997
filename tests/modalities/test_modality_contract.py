"""What every modality promises, whatever it reads."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder_cases import history, image, item, picture, subwords, table, text
from polydetr.core.access import FileAccess
from polydetr.core.documents import EncodedGroup
from polydetr.core.plugs import MODALITIES
from polydetr.errors import RowError
from polydetr.modalities.base import Modality, Needs, ReadsFiles
from tiny_models import strict_json

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ModalityCase:
    """bad: a row whose value cannot be read, and its column. other: makes one that gives other tokens."""

    name: str
    make: Callable[[], Modality]
    rows: Sequence[Row]
    bad: tuple[Row, str]
    other: Sequence[Callable[[], Modality]]

    @property
    def others(self) -> dict[str, Modality]:
        """What stands before it in a model."""
        return {"text": text("note"), "image": image("photo")} if self.name == "history" else {}


PHOTOS = [{"photo": picture(0)}, {"photo": [picture(1), picture(2)]}]
CASES = [
    ModalityCase(
        "text", lambda: text("note", "more"), [{"note": "amber", "more": "dune birch"}, {"note": "", "more": "ember"}],
        ({"note": "amber", "more": 3}, "more"),
        [lambda: text("note"), lambda: text("note", "more", max_tokens=12),
         lambda: text("note", "more", word_shape=False), lambda: text("note", "more", needs=Needs(words=True)),
         lambda: text("note", "more", needs=Needs(alone=True))],
    ),
    ModalityCase(
        "subwords", subwords, [{"text": "北京大学的学生"}, {"text": "the cat"}], ({"text": 3}, "text"),
        [lambda: text("text")],
    ),
    ModalityCase(
        "image", lambda: image("photo"), PHOTOS, ({"photo": 3}, "photo"),
        [lambda: image("photo", size=32), lambda: image("other"), lambda: image("photo", max_images=1),
         lambda: image("photo", needs=Needs(frames=True))],
    ),
    ModalityCase(
        "table", table, [{"n": 2, "c": "amber", "d": "2024-03-02"}, {"n": 5, "c": "birch"}], ({"n": "much"}, "n"),
        [lambda: table(count=8)],
    ),
    ModalityCase(
        "history", history, [{"seen": [item(1), item(2)]}, {"seen": [item(3)]}], ({"seen": 3}, "seen"),
        [lambda: history(max_items=2), lambda: history(item_tokens=6), lambda: history(age=None)],
    ),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> ModalityCase:
    return request.param


@pytest.fixture
def modality(case: ModalityCase) -> Modality:
    return case.make()


def same(first: EncodedGroup, second: EncodedGroup) -> bool:
    """Equal windows, to the bit."""
    pairs = list(zip(first.windows, second.windows, strict=True))
    return all(a.arrays.keys() == b.arrays.keys() for a, b in pairs) and all(
        a.arrays[name].dtype == b.arrays[name].dtype and np.array_equal(a.arrays[name], b.arrays[name])
        for a, b in pairs
        for name in a.arrays
    )


def restored(modality: Modality, case: ModalityCase, folder: Path) -> Modality:
    modality.save_files(folder)
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} <= modality.files
    return type(modality).from_state(strict_json(modality.state()), folder, others=case.others)


def snapshot(modality: Modality) -> str:
    return json.dumps(modality.state(), sort_keys=True) + modality.fingerprint()


def test_every_modality_is_in_the_table() -> None:
    assert {type(case.make()) for case in CASES} == set(MODALITIES.values())


def test_state_survives_json_and_files(modality: Modality, case: ModalityCase, tmp_path: Path) -> None:
    again = restored(modality, case, tmp_path)
    assert strict_json(again.state()) == strict_json(modality.state())
    assert again.fingerprint() == modality.fingerprint()
    assert (again.fields, again.needs) == (modality.fields, modality.needs)
    for row in case.rows:
        assert same(modality.encode([row]), again.encode([row]))


def test_what_the_tasks_need_is_saved(modality: Modality, case: ModalityCase) -> None:
    assert modality.state()["needs"] == asdict(modality.needs)
    assert Needs.from_state({**asdict(modality.needs), "what later versions know": 1}) == modality.needs


def test_the_same_row_gives_the_same_tokens(modality: Modality, case: ModalityCase) -> None:
    for row in case.rows:
        before = copy.deepcopy(dict(row))
        first, second, fresh = modality.encode([row]), modality.encode([row]), case.make().encode([row])
        assert same(first, second)
        assert same(first, fresh)
        assert repr(row) == repr(before)


def test_threads_get_what_one_gets(modality: Modality, case: ModalityCase) -> None:
    rows = [*case.rows] * 40
    expected = [case.make().encode([row]) for row in case.rows] * 40
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda row: modality.encode([row]), rows))
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_what_is_missing_gives_no_tokens_and_a_finding(modality: Modality, case: ModalityCase) -> None:
    beside = modality.over(modality.fields)
    for value in (None, float("nan")):
        group = beside.encode([dict.fromkeys(modality.fields, value)])
        assert group.is_empty
        assert {(f.kind, f.column) for f in group.warnings} == {("missing", field) for field in modality.fields}
        full = beside.encode([case.rows[0]])
        shapes = [{n: (a.dtype, a.shape[1:]) for n, a in g.windows[0].arrays.items()} for g in (group, full)]
        assert shapes[0] == shapes[1]
        assert {len(array) for array in group.windows[0].arrays.values()} == {0}


def test_what_cannot_be_read_is_an_error_with_its_column(modality: Modality, case: ModalityCase) -> None:
    row, column = case.bad
    with pytest.raises(RowError) as caught:
        modality.encode([row])
    assert caught.value.location is not None
    assert caught.value.location.column == column


def test_the_fingerprint_changes_with_the_tokens(modality: Modality, case: ModalityCase) -> None:
    assert case.make().fingerprint() == modality.fingerprint()
    for other in case.other:
        assert other().fingerprint() != modality.fingerprint()


def test_settings_of_the_network_leave_the_fingerprint() -> None:
    assert text("note", dropout=0.3).fingerprint() == text("note").fingerprint()
    assert image("photo", augment={"flip": False}).fingerprint() == image("photo").fingerprint()
    assert image("photo", needs=Needs(zoom=0.5)).fingerprint() == image("photo").fingerprint()


def test_entries_cost_what_is_attended_over(modality: Modality, case: ModalityCase) -> None:
    assert isinstance(modality.tokens_per_entry, int)
    assert 1 <= modality.tokens_per_entry <= 10_000


def test_a_changed_copy_leaves_the_original_as_it_was(modality: Modality, case: ModalityCase) -> None:
    before, tokens = snapshot(modality), [modality.encode([row]) for row in case.rows]
    twin = modality.over(["another"])
    assert (twin.fields, twin.needs) == (("another",), Needs())
    assert modality.only(["one"]).fields == ("one",)
    alone = modality.by_itself()
    assert (alone.needs.alone, alone.fields) == (True, modality.fields)
    assert snapshot(modality) == before
    assert all(same(modality.encode([row]), old) for row, old in zip(case.rows, tokens, strict=True))


def test_files_that_rows_name_are_distinguished_by_content(tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / "photo.png"
    for modality, row in (
        (image("photo"), {"photo": str(path)}),
        (history(), {"seen": [{"photo": str(path)}]}),
    ):
        assert isinstance(modality, ReadsFiles)
        assert modality.reads_files
        Image.fromarray(picture(0)).save(path)
        first = modality.content_key([row], access=FileAccess())
        assert first == modality.content_key([row], access=FileAccess())
        Image.fromarray(picture(5)).save(path)
        assert modality.content_key([row], access=FileAccess()) != first
    assert not isinstance(text("note"), ReadsFiles)
