"""A backbone whose SentencePiece vocabulary joins Chinese characters, made without a download."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from polydetr.specs.text import TextSpec

PIECES = (
    "▁the",
    "▁cat",
    "▁U",
    "S",
    ".",
    "▁12",
    "5",
    "%",
    "北京",
    "大学",
    "学生",
    "的",
    "北",
    "京",
    "大",
    "学",
    "生",
    "东京タワー",
)
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")


def backbone() -> TextSpec:
    """Two random layers under a vocabulary like that of multilingual E5."""
    vocabulary = [(piece, 0.0) for piece in SPECIAL] + [("▁", -2.0), *((p, -3.0) for p in PIECES)]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=False)
    encoder = {
        "vocab_size": len(vocabulary),
        "hidden_dim": 16,
        "num_layers": 2,
        "num_heads": 2,
        "ffn_dim": 32,
        "max_positions": 64,
    }
    return TextSpec(
        name="tiny",
        config={"architecture": "bert", "encoder": encoder},
        tokenizer=tokenizer,
        cls_id=0,
        sep_id=2,
        pad_id=1,
        unk_id=3,
        hidden_dim=16,
        max_positions=64,
        cased=True,
        num_layers=2,
    )
