"""A text backbone from nothing but the training texts: a vocabulary learned from them, embeddings with random weights, no layers."""

from __future__ import annotations

from collections.abc import Iterable

from polydetr.backbones.text import TextBackbone

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def scratch_backbone(
    texts: Iterable[str], *, vocab_size: int, hidden_dim: int, max_positions: int, lowercase: bool = False
) -> TextBackbone:
    """WordPiece (Schuster and Nakajima 2012) over ``texts``; deterministic. The shared encoder above it does the attending."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=list(SPECIAL), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    pad, unk, cls, sep = (tokenizer.token_to_id(token) for token in SPECIAL)
    encoder = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_dim": hidden_dim,
        "num_layers": 0,
        "num_heads": 1,
        "ffn_dim": hidden_dim,
        "max_positions": max_positions,
    }
    return TextBackbone(
        name="none",
        config={"architecture": "bert", "encoder": encoder},
        tokenizer=tokenizer,
        cls_id=cls,
        sep_id=sep,
        pad_id=pad,
        unk_id=unk,
        hidden_dim=hidden_dim,
        max_positions=max_positions,
        cased=not lowercase,
        num_layers=0,
    )
