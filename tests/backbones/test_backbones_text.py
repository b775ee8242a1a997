"""Text backbones from folders: parity with transformers, refusals, and a round trip without weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from polydetr.backbones import text as encoders
from polydetr.errors import BackboneError, ModelFolderError, SaveError
from polydetr.specs.text import TextSpec, load_text_spec

transformers = pytest.importorskip("transformers")

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "Berlin", "berlin", "wall", "##s", "北", "京", "."]
SIZES = {
    "vocab_size": 13,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 17,
}


def write_tokenizer(folder: Path, *, lowercase: bool, words: list[str] = WORDS) -> None:
    names = {"[UNK]": "<unk>", "[CLS]": "<s>", "[SEP]": "</s>", "[PAD]": "<pad>"} if "<s>" in words else {}
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token=names.get("[UNK]", "[UNK]")))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    cls, sep = names.get("[CLS]", "[CLS]"), names.get("[SEP]", "[SEP]")
    special = [(cls, words.index(cls)), (sep, words.index(sep))]
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{cls} $A {sep}", special_tokens=special)
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=5)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_model(folder: Path, config, *, lowercase: bool = False, words: list[str] = WORDS, **saving):
    """A random model as transformers saves it; returns the model."""
    torch.manual_seed(7)
    model = transformers.AutoModel.from_config(config).eval()
    for parameter in model.parameters():  # biases and norms start at 0 and 1, which would hide a mix-up
        parameter.data.normal_(std=0.3)
    model.save_pretrained(folder, **saving)
    write_tokenizer(folder, lowercase=lowercase, words=words)
    return model


@pytest.fixture
def bert(tmp_path):
    folder = tmp_path / "bert"
    return folder, write_model(folder, transformers.BertConfig(**SIZES))


def ours_and_theirs(backbone: TextSpec, model) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[2, 4, 5, 7, 8, 3], [2, 9, 10, 3, 0, 0]])
    if backbone.pad_id:
        ids[1, 4:] = backbone.pad_id
        ids[ids == 0] = 3
        ids[1, 4:] = backbone.pad_id
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    encoder = encoders.build(backbone).eval()
    encoder.load_state_dict(encoders.weights(backbone))
    with torch.no_grad():
        ours = encoder(ids, mask)
        theirs = model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
    return ours[mask], theirs[mask], mask


ROBERTA_WORDS = ["<s>", "<pad>", "</s>", "<unk>", *WORDS[4:]]
ARCHITECTURES = {
    "bert": (transformers.BertConfig(**SIZES, type_vocab_size=3), WORDS, "bert", 17),
    "bert-relu": (transformers.BertConfig(**SIZES, hidden_act="relu", layer_norm_eps=1e-3), WORDS, "bert", 17),
    "roberta": (transformers.RobertaConfig(**SIZES, pad_token_id=1, type_vocab_size=1), ROBERTA_WORDS, "bert", 15),
    "xlm-roberta": (transformers.XLMRobertaConfig(**SIZES, pad_token_id=1), ROBERTA_WORDS, "bert", 15),
    "electra": (transformers.ElectraConfig(**SIZES, embedding_size=24), WORDS, "bert", 17),
    "electra-small": (transformers.ElectraConfig(**SIZES, embedding_size=16), WORDS, "transformers", 17),
    "distilbert": (
        transformers.DistilBertConfig(vocab_size=13, dim=24, n_layers=2, n_heads=3, hidden_dim=40),
        WORDS,
        "transformers",
        512,
    ),
    "mpnet": (transformers.MPNetConfig(**SIZES, pad_token_id=1), ROBERTA_WORDS, "transformers", 15),
    "roberta-silu": (
        transformers.RobertaConfig(**SIZES, pad_token_id=1, type_vocab_size=1, hidden_act="silu"),
        ROBERTA_WORDS,
        "transformers",
        15,
    ),
    "ibert": (transformers.IBertConfig(**SIZES, pad_token_id=1), ROBERTA_WORDS, "transformers", 15),
    "nystromformer": (
        transformers.NystromformerConfig(**SIZES),
        WORDS,
        "transformers",
        17,
    ),
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_the_same_numbers_as_transformers(kind, tmp_path):
    config, words, architecture, positions = ARCHITECTURES[kind]
    model = write_model(tmp_path / "m", config, words=words)
    backbone = load_text_spec(str(tmp_path / "m"))
    assert backbone.config["architecture"] == architecture
    assert (backbone.hidden_dim, backbone.num_layers, backbone.max_positions) == (24, 2, positions)
    ours, theirs, _ = ours_and_theirs(backbone, model)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["roberta", "roberta-silu", "mpnet", "nystromformer", "distilbert"])
def test_positions_and_a_second_text_change_nothing_where_the_encoder_counts_itself(kind, tmp_path):
    config, words, _, positions = ARCHITECTURES[kind]
    write_model(tmp_path / "m", config, words=words)
    backbone = load_text_spec(str(tmp_path / "m"))
    backbone.save(tmp_path)
    encoder = encoders.build(TextSpec.from_folder(tmp_path)).eval()
    length = min(positions, 20)
    ids, mask = torch.arange(4, 4 + length)[None] % 9 + 4, torch.ones(1, length, dtype=torch.bool)
    count, second = torch.arange(length)[None], (torch.arange(length) > 7).long()[None]
    with torch.no_grad():
        before = encoder(ids, mask)
        torch.testing.assert_close(encoder(ids, mask, None, count), before)
        assert encoder(ids, mask, second, count).shape == before.shape
        if getattr(config, "type_vocab_size", 1) == 1:
            torch.testing.assert_close(encoder(ids, mask, second, count), before)


@pytest.mark.parametrize(("kind", "untold"), [("bert", False), ("distilbert", True)])
def test_dropout_is_what_was_asked_for_and_in_training_alone(kind, untold, tmp_path):
    config, words, _, _ = ARCHITECTURES[kind]
    write_model(tmp_path / "m", config, words=words)
    backbone = load_text_spec(str(tmp_path / "m"))
    ids, mask = torch.tensor([[2, 4, 5, 7, 8, 3]]), torch.ones(1, 6, dtype=torch.bool)

    def varies(encoder: torch.nn.Module) -> bool:
        return not torch.equal(encoder(ids, mask), encoder(ids, mask))

    assert varies(encoders.build(backbone, dropout=0.5).train())
    assert not varies(encoders.build(backbone, dropout=0.5).eval())
    assert varies(encoders.build(backbone).train()) is untold  # by its configuration, where that is read


def test_the_tokenizer_neither_cuts_nor_pads_and_knows_its_case(bert, tmp_path):
    backbone = load_text_spec(str(bert[0]))
    text = "the Berlin walls 北京 . the the the"
    found = backbone.tokenizer.encode(text, add_special_tokens=False)
    assert found.tokens == ["the", "Berlin", "wall", "##s", "北", "京", ".", "the", "the", "the"]
    assert [text[a:b] for a, b in found.offsets[1:4]] == ["Berlin", "wall", "s"]
    assert (backbone.cls_id, backbone.sep_id, backbone.pad_id, backbone.unk_id) == (2, 3, 0, 1)
    assert backbone.cased
    write_tokenizer(bert[0], lowercase=True)
    assert not load_text_spec(str(bert[0])).cased


def test_shards_are_joined_and_stay_inside_the_folder(bert):
    folder, _ = bert
    whole = encoders.weights(load_text_spec(str(folder)))
    state = load_file(folder / "model.safetensors")
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[::2], "../model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({n: state[n] for n in part}, folder / Path(file).name)
    where = {n: file for file, part in parts.items() for n in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "model.safetensors").unlink()
    found = encoders.weights(load_text_spec(str(folder)))
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[n], whole[n]) for n in whole)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BackboneError, match="lacks the shards model-00002-of-00002"):
        load_text_spec(str(folder))


def test_half_precision_is_read_as_fp32(bert):
    folder, _ = bert
    state = load_file(folder / "model.safetensors")
    save_file({n: t.to(torch.float16) for n, t in state.items()}, folder / "model.safetensors")
    assert {t.dtype for t in encoders.weights(load_text_spec(str(folder))).values()} == {torch.float32}


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_unopened(bert, name):
    folder, _ = bert
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(b"anything")
    with pytest.raises(BackboneError, match=f"{name}; such a file can run code") as caught:
        load_text_spec(str(folder))
    assert "safe_serialization=True" in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json is missing"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be read as a tokenizer"),
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("[1]"), "holds list"),
        (lambda f: (f / "config.json").write_text("{}"), "no model_type"),
        (lambda f: (f / "config.json").write_text('{"model_type": "bert"}'), "lacks"),
        (
            lambda f: (f / "config.json").write_text('{"model_type": "my-own"}'),
            "does not know the architecture 'my-own'",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x08"), "model.safetensors cannot be read"),
    ],
)
def test_a_folder_that_is_not_whole(bert, spoil, message):
    spoil(bert[0])
    with pytest.raises(BackboneError, match=message):
        encoders.weights(load_text_spec(str(bert[0])))


def test_a_tokenizer_of_another_model(bert):
    write_tokenizer(bert[0], lowercase=False, words=[*WORDS, "one", "two"])
    with pytest.raises(BackboneError, match="14 entries, the encoder only 13"):
        load_text_spec(str(bert[0]))


def test_remote_code_is_never_kept_nor_run(tmp_path):
    folder = tmp_path / "m"
    write_model(folder, ARCHITECTURES["distilbert"][0])
    config = json.loads((folder / "config.json").read_text())
    code = "raise SystemExit('this ran')\n"
    (folder / "evil.py").write_text(code)
    (folder / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "evil.Evil", "AutoConfig": "evil.E"}})
    )
    backbone = load_text_spec(str(folder))
    encoders.build(backbone).load_state_dict(encoders.weights(backbone))
    assert "auto_map" not in json.dumps(backbone.config)


def test_save_and_restore_without_weights(bert, tmp_path):
    before = load_text_spec(str(bert[0]))
    before.save(tmp_path / "saved")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == ["backbone.json", "tokenizer.json"]
    weights = encoders.weights(before)
    shutil.rmtree(bert[0])
    after = TextSpec.from_folder(tmp_path / "saved")
    for field in ("name", "config", "cls_id", "sep_id", "pad_id", "unk_id", "hidden_dim", "cased", "num_layers"):
        assert getattr(after, field) == getattr(before, field)
    for text in ("the Berlin walls", "北京.", "", "unknown é  words"):
        ours, theirs = (b.tokenizer.encode(text, add_special_tokens=False) for b in (before, after))
        assert (ours.ids, ours.offsets) == (theirs.ids, theirs.offsets)
    encoders.build(after).load_state_dict(weights)
    with pytest.raises(BackboneError, match="restored from a model folder"):
        encoders.weights(after)


def test_a_saved_folder_that_is_broken(bert, tmp_path):
    backbone, folder = load_text_spec(str(bert[0])), tmp_path / "saved"
    backbone.save(folder)
    good = json.loads((folder / "backbone.json").read_text())
    for content, message in (
        ("{", "cannot be read"),
        (json.dumps(good | {"format": 2}), "format 2, this version reads 1"),
        (json.dumps({k: v for k, v in good.items() if k != "pad_id"}), "lacks pad_id"),
    ):
        (folder / "backbone.json").write_text(content)
        with pytest.raises(ModelFolderError, match=message):
            TextSpec.from_folder(folder)
    (folder / "backbone.json").write_text(json.dumps(good))
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelFolderError, match=r"tokenizer\.json is missing"):
        TextSpec.from_folder(folder)
    (tmp_path / "a-file").write_text("")
    with pytest.raises(SaveError, match="cannot be written"):
        backbone.save(tmp_path / "a-file")


def test_names_that_are_none(tmp_path):
    with pytest.raises(BackboneError, match="Did you mean 'minilm'"):
        load_text_spec("minlm")
    with pytest.raises(BackboneError, match="Did you mean 'e5-multilingual'"):
        load_text_spec("e5-multilingal")
    with pytest.raises(BackboneError, match="is an image backbone"):
        load_text_spec("mobilenet-v2")
    with pytest.raises(BackboneError, match="is no folder"):
        load_text_spec(str(tmp_path / "absent"))
    with pytest.raises(BackboneError, match="is no folder"):
        load_text_spec("./absent")


def test_a_hub_id_that_is_not_on_this_machine(tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(BackboneError, match="the Hugging Face hub did not give it") as caught:
        load_text_spec("some-team/some-encoder")
    assert "minilm" in str(caught.value)
    with pytest.raises(BackboneError, match="no backbone, folder or hub id"):
        load_text_spec("some team/some encoder")


def test_a_hub_id_that_lies_in_the_hubs_cache(bert, tmp_path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = {}

    def snapshot_download(repo_id, **options):
        asked[repo_id] = options
        return str(bert[0])

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    backbone = load_text_spec("some-team/some-encoder")
    assert backbone.name == "some-team/some-encoder"
    patterns = asked["some-team/some-encoder"]["allow_patterns"]
    assert not any(p.endswith((".bin", ".pt", ".py", "*")) for p in patterns)
