"""Histories: what becomes of a list of items, whose weights read it, and that order and age are learned from."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from polydetr import Predictor
from polydetr.engine.encode import RowEncoder
from polydetr.engine.engine import Engine
from polydetr.errors import ConfigError, RowError, SchemaError
from polydetr.modalities.history import HistoryModality
from polydetr.nn.batch import Batch, Embedded
from polydetr.schema.infer import infer_schema
from tiny_models import answers, as_records, encode_all, make_engine, metrics, overfit

WORDS = ["amber", "birch", "cobalt", "dune", "ember", "fjord", "grove", "harbour"]
GENRES = ["wet", "dry", "warm", "cold"]
FIELDS = {"title": "text", "genre": "category", "price": "number"}
Rows = list[dict[str, Any]]


def item(i: int, **more: Any) -> dict[str, Any]:
    """The genre is no function of the title, so that a table of items has something to say."""
    return {"title": WORDS[i % 8], "genre": GENRES[i % 3], "price": 2.5 * (i % 5), **more}


def histories(number: int, seed: int = 0) -> Rows:
    rng = random.Random(seed)
    found = []
    for _ in range(number):
        seen = [rng.choice(WORDS) for _ in range(rng.randint(2, 5))]
        found.append({"seen": seen, "label": seen[-1]})
    return found


def history_of(engine: Engine) -> HistoryModality:
    found = engine.encoder.modalities["history"]
    assert isinstance(found, HistoryModality)
    return found


def engine_for(rows: Rows, **options: Any) -> Engine:
    inputs = options.pop("inputs", {"seen": "history"})
    return make_engine(rows, {"label": "classification"}, inputs=inputs, **options)


@pytest.fixture
def mixed() -> Engine:
    """Items of text, number and category, beside a text column that the same embedder reads."""
    rows = [{"note": f"note {i}", "seen": [item(i), item(i + 1)], "label": str(i % 2)} for i in range(60)]
    return engine_for(
        rows, inputs={"note": "text", "seen": "history"},
        settings={"history": {"max_items": 3, "item_tokens": 6, "fields": FIELDS}},
    )  # fmt: skip


def arrays(engine: Engine, row: dict[str, Any]) -> dict[str, np.ndarray]:
    return dict(history_of(engine).encode([row]).windows[0].arrays)


def embed(engine: Engine, rows: Rows) -> Embedded:
    batch = Batch.collate(encode_all(engine, rows, with_targets=False))
    with torch.no_grad():
        return engine.runner.model.embedders["history"](batch.groups["history"])


# -- arrays ---------------------------------------------------------------------------------------------------------


def test_an_item_is_one_entry_in_fixed_room(mixed: Engine) -> None:
    found = arrays(mixed, {"seen": [item(1), item(2), item(1)]})
    assert found["text.input_ids"].shape == (3, 6)
    assert found["table.column"].shape == (3, 2)
    assert found["table.number"].shape == (3, 2, 1)
    assert found["text.length"].tolist() == [3, 3, 3]  # [CLS] word [SEP]
    assert found["table.length"].tolist() == [2, 2, 2]
    assert not found["text.input_ids"][:, 3:].any()
    assert found["order"].tolist() == [2, 1, 0]
    assert found["item"].dtype == np.int64
    assert found["item"][0] == found["item"][2] != found["item"][1]


def test_the_latest_items_are_kept_and_that_is_reported(mixed: Engine) -> None:
    group = history_of(mixed).encode([{"seen": [item(i) for i in range(5)]}])
    latest = history_of(mixed).encode([{"seen": [item(i) for i in (2, 3, 4)]}])
    assert group.windows[0].arrays["item"].tolist() == latest.windows[0].arrays["item"].tolist()
    assert [(f.kind, f.column) for f in group.warnings] == [("truncated", "seen")]
    assert "5 items; the latest 3" in str(group.warnings[0])


@pytest.mark.parametrize("value", [None, [], float("nan"), [None], [{}], [{"unknown": 1}]])
def test_nothing_is_missing(mixed: Engine, value: Any) -> None:
    group = history_of(mixed).encode([{"seen": value}])
    assert group.is_empty
    assert {f.kind for f in group.warnings} == {"missing"}
    assert {f.column for f in group.warnings} == {"seen"}
    whole = arrays(mixed, {"seen": [item(1)]})
    empty = dict(group.windows[0].arrays)
    assert {n: (a.dtype, a.shape[1:]) for n, a in empty.items()} == {
        n: (a.dtype, a.shape[1:]) for n, a in whole.items()
    }


def test_what_is_no_list_or_no_item_is_an_error_that_names_the_place(mixed: Engine) -> None:
    for value, said in [(7, "expected a list of items"), ([item(0), 7, item(1)], "item 2 from the end of 'seen' is 7")]:
        with pytest.raises(RowError, match=said) as caught:
            history_of(mixed).encode([{"seen": value}])
        assert caught.value.location is not None
        assert caught.value.location.column == "seen"
    with pytest.raises(RowError, match="item 1 from the end of 'seen', 'price': 'much'"):
        history_of(mixed).encode([{"seen": [item(0), {**item(1), "price": "much"}]}])


def test_a_string_is_an_item_and_an_item_alone_is_no_history(mixed: Engine) -> None:
    listed = arrays(mixed, {"seen": ["amber"]})
    assert (
        listed["text.input_ids"][0].tolist()
        == arrays(mixed, {"seen": [{"title": "amber"}]})["text.input_ids"][0].tolist()
    )
    assert listed["table.length"].tolist() == [0]
    alone = arrays(mixed, {"seen": "amber"})
    assert alone["item"].tolist() == listed["item"].tolist()
    assert (alone["order"].tolist(), listed["order"].tolist()) == ([3], [0])


def test_ages_are_scaled_missing_ones_flagged_and_the_future_is_reported() -> None:
    rows = [{"seen": [item(i, days=float(i)), item(i + 1, days=0)], "label": str(i % 2)} for i in range(30)]
    engine = engine_for(rows, settings={"history": {"age": "days"}})
    assert "days" not in [spec.name for spec in history_of(engine).item_fields]
    group = history_of(engine).encode([{"seen": [item(1, days=29), item(2), item(3, days=-1)]}])
    found = group.windows[0].arrays
    assert found["age_known"].tolist() == [1, 0, 1]
    mean, std = history_of(engine).age_scale
    assert found["age"].tolist() == pytest.approx([(np.log1p(29) - mean) / std, 0.0, -mean / std], rel=1e-5)
    assert [(f.kind, f.column) for f in group.warnings] == [("out_of_range", "seen")]


def test_fields_that_are_not_there_are_refused() -> None:
    rows = [{"seen": [item(i)], "label": str(i % 2)} for i in range(10)]
    with pytest.raises(ConfigError, match=r"history\.age: no item has a field 'dys'"):
        engine_for(rows, settings={"history": {"age": "dys"}})
    with pytest.raises(ConfigError, match=r"history\.fields: .*'titel'.*Did you mean 'title'"):
        engine_for(rows, settings={"history": {"fields": {"titel": None}}})
    with pytest.raises(SchemaError, match="have no field that can be read"):
        engine_for([{"seen": [{"of": [1, 2]}], "label": str(i % 2)} for i in range(4)])
    with pytest.raises(ConfigError, match=r"history\.item_tokens = 4 leaves no room for 2 texts"):
        engine_for(rows, settings={"history": {"item_tokens": 4, "fields": {"title": "text", "genre": "text"}}})


def test_a_list_of_strings_or_mappings_is_read_as_a_history() -> None:
    for seen in (["a b", "c"], [item(1)]):
        schema = infer_schema([{"seen": seen, "label": str(i % 2)} for i in range(30)], targets={"label": None})
        assert schema.names("history") == ["seen"]


# -- whose weights --------------------------------------------------------------------------------------------------


def test_items_are_read_by_the_models_own_embedder(mixed: Engine) -> None:
    names = list(mixed.runner.model.state_dict())
    assert [n for n in names if "words.weight" in n] == ["embedders.text.backbone.embeddings.words.weight"]
    assert not [n for n in names if n.startswith("embedders.history.") and "backbone" in n]
    before = embed(mixed, [{"note": "x", "seen": [item(1)]}]).tokens
    with torch.no_grad():
        mixed.runner.model.embedders["text"].backbone.embeddings.words.weight.mul_(2)  # type: ignore[union-attr]
    assert not torch.allclose(before, embed(mixed, [{"note": "x", "seen": [item(1)]}]).tokens)


def test_a_vocabulary_knows_the_words_of_items_and_columns() -> None:
    rows = [{"note": "aubergine", "seen": ["quokka"], "label": str(i % 2)} for i in range(8)]
    for inputs in ({"note": "text", "seen": "history"}, {"seen": "history"}):
        engine = engine_for(rows, inputs=inputs)
        known = engine.encoder.modalities["text"].spec.tokenizer.get_vocab()  # type: ignore[attr-defined]
        assert "quokka" in known
        assert ("aubergine" in known) == ("note" in inputs)
        # A column that is not there is no part of the encoder either.
        encoder = engine.runner.model.encoder
        assert encoder.modalities == tuple({"note": "text", "seen": "history"}[name] for name in inputs)


def test_an_item_that_recurs_is_embedded_once(mixed: Engine) -> None:
    seen: list[torch.Size] = []
    embedder = mixed.runner.model.embedders["text"]
    hook = embedder.register_forward_hook(lambda m, given, out: seen.append(out.tokens.shape))
    rows = [{"seen": [item(1), item(2)]}, {"seen": [item(2), item(1), item(2)]}]
    found = embed(mixed, rows)
    hook.remove()
    assert [shape[0] for shape in seen] == [2]
    weight = mixed.runner.model.embedders["history"].order_embedding.weight  # type: ignore[union-attr]
    plain = found.tokens - weight[torch.tensor([[1, 0, 0], [2, 1, 0]])]  # type: ignore[index]
    torch.testing.assert_close(plain[0, 0], plain[1, 1])
    torch.testing.assert_close(plain[0, 1], plain[1, 0])
    torch.testing.assert_close(plain[1, 2], plain[1, 0])
    assert not torch.allclose(plain[0, 0], plain[0, 1], atol=1e-3)
    assert found.mask.tolist() == [[True, True, False], [True, True, True]]


def test_a_token_is_the_mean_over_its_kinds(mixed: Engine) -> None:
    whole, text, table = ({"seen": [found]} for found in (item(1), {"title": "birch"}, {"genre": "dry", "price": 2.5}))
    tokens = [embed(mixed, [row]).tokens[0, 0] for row in (whole, text, table)]
    order = mixed.runner.model.embedders["history"].order_embedding.weight[0]  # type: ignore[union-attr, index]
    # The text's part alone has a table of flags no longer: its row of cells is empty.
    torch.testing.assert_close(tokens[0] - order, (tokens[1] + tokens[2]) / 2 - order, rtol=1e-4, atol=1e-5)


def test_images_of_items(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(4)]
    rows = [{"seen": [{"photo": pictures[i % 4], "title": WORDS[i % 8]}], "label": str(i % 2)} for i in range(8)]
    small = {"image": {"size": 16, "patch_size": 8}}
    engine = engine_for(rows, settings=small)
    assert set(history_of(engine).parts) == {"text", "image"}
    assert history_of(engine).reads_files
    found = arrays(engine, rows[0])
    assert found["image.pixels"].shape == (1, 1, 3, 16, 16)
    assert found["image.pixels"].dtype == np.uint8
    same, other = ({"photo": pictures[i], "title": "amber"} for i in (0, 1))
    tokens = embed(engine, [{"seen": [same]}, {"seen": [other]}]).tokens
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-4)
    assert len(answers(engine, rows)) == 8


# -- learning -------------------------------------------------------------------------------------------------------


def test_order_matters() -> None:
    train, test = histories(160), histories(60, seed=1)
    engine = engine_for(train)
    overfit(engine, train, lr=5e-3)
    assert metrics(engine, test)["label"]["accuracy"] > 0.95
    backwards = [{**row, "seen": row["seen"][::-1]} for row in test]
    assert metrics(engine, backwards)["label"]["accuracy"] < 0.6


def test_age_matters() -> None:
    """The label is the item that is youngest, wherever it stands."""
    rng = random.Random(0)

    def rows(number: int) -> Rows:
        found = []
        for _ in range(number):
            seen = [{"title": word, "days": age} for word, age in zip(rng.sample(WORDS, 3), (0, 30, 300), strict=True)]
            found.append({"label": seen[0]["title"], "seen": rng.sample(seen, 3)})
        return found

    train, test = rows(160), rows(60)
    aged, ageless = (
        engine_for(train, settings={"history": {"age": age, "fields": {"title": "text"}}}) for age in ("days", None)
    )
    for engine in (aged, ageless):
        overfit(engine, train, lr=5e-3)
    assert metrics(aged, test)["label"]["accuracy"] > 0.9
    assert metrics(ageless, test)["label"]["accuracy"] < 0.7


def test_a_trained_model_is_saved_and_loaded_whole(tmp_path: Path) -> None:
    rows = [
        {"note": f"n{i % 3}", "seen": [item(i, days=i), "amber", item(i + 1, days=1)], "label": WORDS[(i + 1) % 8]}
        for i in range(60)
    ]
    predictor = Predictor.fit(
        rows, "label", valid=rows[:10], inputs={"note": "text", "seen": "history"}, backbone="none", epochs=1,
        out=tmp_path / "model",
        settings={"model": {"embed_dim": 16, "num_layers": 1}, "history": {"age": "days", "fields": FIELDS}},
    )  # fmt: skip
    again = Predictor.load(tmp_path / "model")
    asked = [*rows[:8], {"note": "n1", "seen": None}, {"note": None, "seen": ["amber"]}]
    assert again.predict_proba(asked) == predictor.predict_proba(asked)
    old, new = history_of(predictor._engine), history_of(again._engine)
    assert (old.state(), old.fingerprint()) == (new.state(), new.fingerprint())
    again.save(tmp_path / "copy")
    assert Predictor.load(tmp_path / "copy").predict(asked) == predictor.predict(asked)
    assert again.check([{"note": "a", "seen": [item(0)] * 30}]).counts["truncated", "seen"] == 1


def test_a_row_without_a_history_is_refused_where_nothing_else_is_read() -> None:
    rows = histories(20)
    engine = engine_for(rows)
    results = answers(engine, [*rows[:2], {"seen": []}], on_error="return")
    assert [r.error is None for r in results] == [True, True, False]
    assert "every value that the model reads is missing: 'seen'" in str(results[2].error)


def test_two_histories_are_distinguished() -> None:
    rows = [{"seen": [WORDS[i % 8]], "skipped": [WORDS[(i + 3) % 8]], "label": str(i % 2)} for i in range(16)]
    engine = engine_for(rows, inputs={"seen": "history", "skipped": "history"})
    found = arrays(engine, {"seen": ["amber", "dune"], "skipped": ["amber"]})
    assert found["field"].tolist() == [0, 0, 1]
    assert found["order"].tolist() == [1, 0, 0]
    tokens = embed(engine, [{"seen": ["amber"], "skipped": ["amber"]}]).tokens[0]
    assert not torch.allclose(tokens[0], tokens[1], atol=1e-4)


def test_encoding_is_cached_but_not_confused(mixed: Engine) -> None:
    first = arrays(mixed, {"seen": [item(1)]})
    again = arrays(mixed, {"seen": [dict(item(1))]})
    assert all(np.array_equal(first[name], again[name]) for name in first)
    other = arrays(mixed, {"seen": [{**item(1), "price": 9.0}]})
    assert other["item"][0] != first["item"][0]
    encoder = RowEncoder(mixed.encoder.modalities, mixed.tasks, context=False)
    assert encoder.encode(as_records([{"note": "a", "seen": [item(1)]}]), with_targets=False).examples[0].num_tokens > 1


def test_whole_numbers_name_items() -> None:
    rng = random.Random(3)
    seen = [[rng.choice((7, 40, 41, 300)) for _ in range(4)] for _ in range(60)]
    for rows in (
        [{"seen": items, "label": "ab"[items[0] % 2]} for items in seen],
        [{"seen": [float(i) for i in items], "label": "ab"[items[0] % 2]} for items in seen],
    ):
        engine = engine_for(rows)
        assert [(spec.name, spec.modality) for spec in history_of(engine).item_fields] == [("item", "category")]
        table = history_of(engine).table
        assert table is not None
        assert set(table.columns[0].names) == {"7", "40", "41", "300"}  # type: ignore[union-attr]
    (result,) = engine.run(as_records([{"seen": [7, 8]}]))
    assert any("'8' in column 'item' is none of" in str(warning) for warning in result.warnings)
    with pytest.raises(RowError, match=r"item 1 from the end of 'seen' is 0\.5, expected .* whole number"):
        list(engine.run(as_records([{"seen": [7, 0.5]}])))
    with pytest.raises(SchemaError, match="An item is a mapping, a text, or a whole number"):
        engine_for([{"seen": [0.5, 1.25], "label": "ab"[i % 2]} for i in range(30)])


def test_a_field_that_names_the_item_is_a_category_and_others_say_how() -> None:
    rng = random.Random(4)
    rows = [
        {"seen": [{"movieId": rng.randint(1, 9), "sku": f"A-{rng.randint(1, 30)}", "stars": rng.randint(1, 5)}] * 2,
         "label": "ab"[i % 2]} for i in range(90)
    ]  # fmt: skip
    notes: list[str] = []
    engine = engine_for(rows, notes=notes)
    kinds = {spec.name: spec.modality for spec in history_of(engine).item_fields}
    assert kinds == {"movieId": "category", "sku": "category", "stars": "number"}
    how = "where 'stars' is a name, say history.fields: {movieId: category, sku: category, stars: category}"
    assert any(how in note for note in notes)
    only = [{"seen": [{"n": rng.randint(1, 9)}] * 2, "label": "ab"[i % 2]} for i in range(90)]
    assert [spec.modality for spec in history_of(engine_for(only)).item_fields] == ["category"]
