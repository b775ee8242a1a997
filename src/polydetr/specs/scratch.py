"""A text backbone from nothing but the training texts: a vocabulary learned from them, embeddings with random weights,
no layers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from polydetr.specs.text import TextSpec

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def scratch_spec(
    texts: Iterable[str], *, vocab_size: int, hidden_dim: int, max_positions: int, lowercase: bool = False
) -> TextSpec:
    """WordPiece (Schuster and Nakajima 2012) over ``texts``; deterministic. The shared encoder above it does the
    attending.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    texts = list(texts)
    normalizer, pre_tokenizer = normalizers.BertNormalizer(lowercase=lowercase), pre_tokenizers.BertPreTokenizer()
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer, learner.pre_tokenizer = normalizer, pre_tokenizer
    # The trainer numbers the ``##x`` subwords in the order of a hash table and breaks ties by number; given beforehand
    # they have an order.
    alphabet = sorted({c for text in texts for c in normalizer.normalize_str(text) if _may_stand_inside(c)})
    first = [*SPECIAL, *(f"##{c}" for c in alphabet)]
    size = max(vocab_size, len(first))
    trainer = trainers.WordPieceTrainer(vocab_size=size, min_frequency=2, special_tokens=first, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    # A new tokenizer from the vocabulary alone: in it the subwords are no longer special.
    tokenizer = Tokenizer(models.WordPiece(learner.get_vocab(), unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(list(SPECIAL))
    vocabulary = tokenizer.get_vocab()
    pad, unk, cls, sep = (vocabulary[token] for token in SPECIAL)
    encoder = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_dim": hidden_dim,
        "num_layers": 0,
        "num_heads": 1,
        "ffn_dim": hidden_dim,
        "max_positions": max_positions,
    }
    return TextSpec(
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


def _may_stand_inside(char: str) -> bool:
    """White space, punctuation and ideographs are cut off on both sides; other characters can stand inside a word."""
    name = unicodedata.name(char, "")
    return not (char.isspace() or unicodedata.category(char)[0] == "P" or name.startswith("CJK "))
