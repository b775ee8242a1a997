"""The public face: every verb, every kind of rows, saved and loaded alike."""

from __future__ import annotations

import json

import pytest

from film_models import SETTINGS, Quiet, film_rows, plain_rows, write_csv
from polydetr import Options, Predictor, ReadOptions, read_records
from polydetr.errors import ConfigError, DataFileError, InputError, RowError, SchemaError

TEXTS = [row["text"] for row in plain_rows(5)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POLYDETR_CACHE", str(folder / "cache"))
        yield folder


def fit(*arguments, **given) -> Predictor:
    given.setdefault("display", Quiet())
    given.setdefault("backbone", "none")
    given.setdefault("settings", SETTINGS)
    return Predictor.fit(*arguments, **given)


@pytest.fixture(scope="module")
def films(base):
    return fit(plain_rows(80), "label", valid=plain_rows(20, start=100), out=base / "films", epochs=8)


@pytest.fixture(scope="module")
def several(base):
    targets = {"label": "classification", "stars": "regression", "entities": "tagging"}
    rows, valid = film_rows(60), film_rows(20, start=100)
    return fit(rows, targets, inputs="text", valid=valid, out=base / "several", epochs=6)


def test_every_kind_of_rows_gives_the_same_answers(films, tmp_path):
    expected = films.predict([{"text": text} for text in TEXTS])
    assert [set(answer) for answer in expected] == [{"label"}] * 5
    assert films.predict(TEXTS) == expected
    assert films.predict(tuple(TEXTS)) == expected
    assert films.predict(text for text in TEXTS) == expected
    assert films.predict({"text": TEXTS[0]}) == expected[:1]
    assert films.predict([]) == []
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert films.predict(path) == films.predict(str(path)) == expected
    assert films.predict(write_csv(tmp_path / "rows.csv", plain_rows(5))) == expected


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frames(films, library):
    module = pytest.importorskip(library)
    columns = {"text": TEXTS, "other": [1, 2, 3, 4, 5]}
    frame = module.table(columns) if library == "pyarrow" else module.DataFrame(columns)
    assert films.predict(frame) == films.predict(TEXTS)
    if library == "pandas":
        assert films.predict(frame["text"]) == films.predict(TEXTS)


def test_a_bare_string_is_a_path_and_the_error_says_so(films):
    with pytest.raises(DataFileError, match=r"no such file: 'a lovely film'.*put it into a list: predict\(\[text\]\)"):
        films.predict("a lovely film")


def test_it_has_learned(films):
    assert films.evaluate(plain_rows(20, start=100))["label"]["accuracy"] == 1.0
    assert films.predict(["scene 1 of a lovely evening", "scene 1 of a cold evening"]) == [
        {"label": "good"},
        {"label": "bad"},
    ]


def test_probabilities_sum_to_one_and_agree_with_the_answer(films):
    answers = films.predict(TEXTS)
    for answer, found in zip(answers, films.predict_proba(TEXTS), strict=True):
        assert set(found["label"]) == {"good", "bad"}
        assert sum(found["label"].values()) == pytest.approx(1.0, abs=1e-9)
        assert max(found["label"], key=found["label"].get) == answer["label"]


def test_evaluate_reads_files_and_frames(films, tmp_path):
    rows = plain_rows(12, start=200)
    expected = films.evaluate(rows)
    assert films.evaluate(write_csv(tmp_path / "test.csv", rows)) == expected
    assert films.evaluate(pytest.importorskip("pandas").DataFrame(rows)) == expected
    assert {"accuracy", "macro_f1", "weighted_f1", "ece"} <= set(expected["label"])


def test_evaluate_names_a_missing_target(films):
    with pytest.raises(
        SchemaError, match=r"there is no column 'label', the target.*the columns are 'text', 'lable'.*Did"
    ):
        films.evaluate([{"text": "a", "lable": "good"}])


def test_evaluate_warns_of_labels_that_training_never_saw(films):
    rows = [*plain_rows(4), {"text": "odd", "label": "strange"}, {"text": "odd", "label": "strange"}]
    with pytest.warns(UserWarning, match=r"labels of 'label' that training never saw.*'strange' \(2\)"):
        found = films.evaluation(rows)["label"]
    assert found.data["unseen_labels"] == {"strange": 2}


def test_several_targets_from_one_model(several):
    (answer,) = several.predict(["scene 3 of a warm evening"])
    assert set(answer) == {"label", "stars", "entities"}
    assert answer["label"] in ("good", "bad")
    assert isinstance(answer["stars"], float)
    for span in answer["entities"]:
        assert "scene 3 of a warm evening"[span["start"] : span["end"]] == span["text"]
    found = several.evaluate(film_rows(20, start=200))
    assert set(found) == {"label", "stars", "entities"}
    assert "entity_f1" in found["entities"]
    assert "rmse" in found["stars"]


@pytest.mark.parametrize("name", ["films", "several"])
def test_a_loaded_model_answers_to_the_bit(request, name):
    made = request.getfixturevalue(name)
    loaded = Predictor.load(made.folder)
    assert loaded.predict_proba(TEXTS) == made.predict_proba(TEXTS)
    assert loaded.predict(TEXTS) == made.predict(TEXTS)
    assert loaded.metrics == made.metrics
    assert loaded.schema == made.schema


def test_one_row_alone_is_answered_as_among_others(films):
    alone = [films.predict_proba([text])[0]["label"]["good"] for text in TEXTS]
    together = [found["label"]["good"] for found in films.predict_proba(TEXTS)]
    assert alone == pytest.approx(together, abs=0.02)


def test_the_same_rows_have_the_same_answers_from_any_source_in_the_type_of_the_labels(base, tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [{"member": i % 3 > 0, "shop": 30 + i % 4, "won": int(i % 3 > 0)} for i in range(60)]
    made = fit(rows, "won", inputs={"member": "category", "shop": "category"}, valid=rows, out=base / "won", epochs=4)
    expected = made.predict(rows)
    assert {type(answer["won"]) for answer in expected} == {int}
    by_hand = sum(answer["won"] == row["won"] for answer, row in zip(expected, rows, strict=True)) / len(rows)
    assert made.evaluate(rows)["won"]["accuracy"] == by_hand
    (tmp_path / "gaps.csv").write_text(
        "member,shop,won\n" + "".join(f"{str(r['member']).upper()},{r['shop']}.0,{r['won']}.0\n" for r in rows)
    )
    for source in (tmp_path / "gaps.csv", pandas.DataFrame(rows), pandas.DataFrame(rows).astype({"shop": float})):
        assert made.predict(source) == expected
        assert made.evaluate(source) == made.evaluate(rows)
    loaded = Predictor.load(base / "won")
    assert [json.loads(json.dumps(answer))["prediction"] for answer in loaded.stream(rows)] == expected
    assert set(loaded.predict_proba(rows)[0]["won"]) == {0, 1}
    assert loaded.explain(rows[0], choice=1).prediction == expected[0]["won"]


# -- streams ------------------------------------------------------------------------------------------------------


def test_a_stream_keeps_the_order_and_rejects_in_place(films, tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = ['{"text": "a lovely one"}', "{broken", '{"text": null}', "", '{"text": "a cold one"}', "[1]", "[2]"]
    path.write_text("\n".join(lines) + "\n")
    found = list(films.stream(path))
    assert [answer["row"] for answer in found] == [1, 2, 3, 4, 5, 6]
    assert ["error" in answer for answer in found] == [False, True, True, False, True, True]
    assert found[0]["prediction"] == films.predict(["a lovely one"])[0]
    assert 0 < found[0]["probability"]["label"] <= 1
    assert "text is missing" in found[2]["error"]
    assert all("prediction" not in answer for answer in found if "error" in answer)


def test_a_long_stream_is_answered_in_pieces(films, monkeypatch):
    """Bounded memory: answers come before the last row has been asked for."""
    monkeypatch.setattr("polydetr.engine.engine.CHUNK_TOKENS", 100)
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield TEXTS[asked % 5] if asked % 7 else 5

    stream = films.stream(endless())
    found = [next(stream) for _ in range(50)]
    assert asked < 120
    assert ["error" in answer for answer in found] == [(i + 1) % 7 == 0 for i in range(50)]


def test_the_wrong_columns_are_one_error_not_one_a_row(films):
    with pytest.raises(
        SchemaError, match=r"no column 'text', which the model reads; the columns are 'txt'.*Did you mean 'txt'"
    ):
        list(films.stream([{"txt": "a"}] * 3))


def test_predict_stops_at_a_bad_row(films):
    with pytest.raises(RowError, match=r"row 2, column 'text': text is missing"):
        films.predict([{"text": "fine"}, {"text": None}])


def test_strings_for_a_model_of_two_texts(base):
    rows = [{"a": f"warm {i}", "b": f"cold {i % 3}", "label": "xy"[i % 2]} for i in range(24)]
    pair = fit(rows, "label", inputs={"a": "text", "b": "text"}, epochs=0.2)
    with pytest.raises(SchemaError, match=r"a row is 'warm', but the model reads 2 columns: 'a', 'b'"):
        pair.predict(["warm"])
    assert len(pair.predict([{"a": "warm", "b": "cold"}])) == 1


# -- fit ------------------------------------------------------------------------------------------------------------


def test_a_configuration_file_is_the_same_as_arguments(base, tmp_path):
    train, valid = (
        write_csv(tmp_path / "t.csv", plain_rows(40)),
        write_csv(tmp_path / "v.csv", plain_rows(10, start=50)),
    )
    (tmp_path / "run.yaml").write_text(
        f"train: {train}\nvalid: {valid}\ntarget: label\nbackbone: none\nepochs: 1\nseed: 3\nout: {tmp_path / 'a'}\n"
        "model: {embed_dim: 16, num_layers: 1, num_heads: 2}\n"
        "training: {batch_tokens: 64, patience: 0, head_lr: 5.0e-3}\n"
    )
    Predictor.fit(config=tmp_path / "run.yaml", display=Quiet())
    fit(train, "label", valid=valid, epochs=1, seed=3, out=tmp_path / "b")
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in "ab")
    assert a == b
    given = Predictor.fit(config=tmp_path / "run.yaml", seed=4, out=str(tmp_path / "c"), display=Quiet())
    assert given.info["config"]["seed"] == 4
    assert given.info["config"]["epochs"] == 1


def test_without_validation_rows_a_share_is_held_out(base):
    shown = Quiet()
    found = fit(plain_rows(40), "label", epochs=0.2, display=shown)
    assert found.info["rows"]["train"] + found.info["rows"]["valid"] == 40
    assert any("held out" in note for note in shown.notes)


def test_no_rows(base):
    with pytest.raises(SchemaError, match=r"no training rows were given.*--train FILE"):
        fit(target="label")
    with pytest.raises(SchemaError, match="there are no training rows"):
        fit([], "label")


def test_all_faults_of_a_configuration_at_once(base):
    with pytest.raises(ConfigError) as caught:
        fit(plain_rows(20), "label", settings={"training": {"lrr": 1, "warmup": 3}, "epoch": 2})
    for part in ("3 faults", "'training.lrr'", "Did you mean 'lr'?", "training.warmup = 3", "'epoch'", "'epochs'"):
        assert part in str(caught.value)


# -- ways to read -----------------------------------------------------------------------------------------------------


def text_of(explanation):
    return " ".join(word.text for word in explanation.words)


def test_every_way_to_ask_takes_the_ways_to_read(films, tmp_path):
    rows = plain_rows(6, start=100)
    path = tmp_path / "rows.txt"
    path.write_text("\n".join(["label|text", *(f"{row['label']}|{row['text']}" for row in rows)]), encoding="utf-16-le")
    reading = ReadOptions(format="csv", encoding="utf-16-le", delimiter="|")
    expected = films.predict(rows)
    assert films.predict(path, reading=reading) == expected
    assert [answer["prediction"] for answer in films.stream(path, reading=reading)] == expected
    assert [answer.values for answer in films.answer(path, options=Options(reading=reading))] == expected
    assert len(films.predict_proba(path, reading=reading)) == len(films.predictions(path, reading=reading)) == 6
    assert films.check(path, reading=reading).rows == 6
    assert films.evaluate(path, reading=reading) == films.evaluate(rows)
    assert text_of(films.explain_file(path, row=6, reading=reading)) == rows[5]["text"]


def test_what_was_made_of_a_file_is_told_with_its_answers(films, tmp_path):
    path = tmp_path / "rows.tsv"
    rows = [f"{row['text']}\t{row['label']}" for row in plain_rows(12, start=100)]
    path.write_text("\n".join(["text\tlabel", rows[0], '"' + rows[1], *rows[2:5], rows[5].replace("\t", '"\t')]))
    with pytest.warns(UserWarning, match="a quotation mark that quotes nothing .*: 1 .*line 3"):
        assert len(films.predict(path)) == 6


def test_rows_that_cannot_be_read_are_left_out_where_that_is_asked_for(films, tmp_path):
    path = tmp_path / "rows.csv"
    good = [f"{row['text']},{row['label']}" for row in plain_rows(4, start=100)]
    path.write_text("\n".join(["text,label", good[0], "a,b,c,d", good[1], good[2], good[3]]))
    skipped = ReadOptions(on_error="skip")
    with pytest.warns(UserWarning, match=r"1 row was left out \(first: .*line 3: 4 fields, expected 2"):
        assert len(films.predict(path, reading=skipped)) == 4
    with pytest.warns(UserWarning, match="1 of the rows were left out"):
        assert films.evaluate(path, reading=skipped) == films.evaluate(plain_rows(4, start=100))
    for ask in (films.predict, films.evaluate):
        with pytest.raises(RowError, match=r"line 3: 4 fields.*--skip-errors \(ReadOptions\(on_error='skip'\)\)"):
            ask(path)
    assert ["error" in answer for answer in films.stream(path)] == [False, True, False, False, False]
    assert text_of(films.explain_file(path, row=3)) == plain_rows(4, start=100)[1]["text"]
    with pytest.raises(RowError, match="line 3: 4 fields"):
        films.explain_file(path, row=2)
    with pytest.raises(InputError, match="there is no row 6: the input has 5"):
        films.explain_file(path, row=6)
    path = tmp_path / "quoted.tsv"  # what was repaired is told, though the rows are not read to their end
    path.write_text('text\tlabel\n"a quiet film\tgood\nanother one\tbad\nthe last\tbad\n')
    with pytest.warns(UserWarning, match="a quotation mark that quotes nothing"):
        assert text_of(films.explain_file(path, row=2)) == "another one"


def test_a_check_counts_the_rows_that_were_not_read(films, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a fine film"}\n{broken\n{"text": 7}\n')
    report = films.check(path, reading=ReadOptions(on_error="skip"))
    assert report.rows == 3
    assert ["line 3" in report.rejected[0], "line 2" in report.rejected[1]] == [True, True]


def test_one_row_is_explained_or_refused_and_never_skipped(films):
    for reading in (ReadOptions(), ReadOptions(on_error="skip")):
        with pytest.raises(RowError, match="holds half a character"):
            films.explain({"text": "\ud800"}, reading=reading)


@pytest.mark.parametrize("text", ["a fine film " * 40, "a fine film\0", "x" * 300 + "/y", "a\n" * 3000])
def test_a_text_where_a_file_is_expected(films, text):
    with pytest.raises(DataFileError, match=r"no such file: .*put it into a list: predict\(\[text\]\)") as caught:
        films.predict(text)
    assert len(str(caught.value)) < 400
    with pytest.raises(DataFileError, match="no such file"):
        next(iter(read_records(text)))
