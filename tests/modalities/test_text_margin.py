"""How much context a token has in its window: what the choice between overlapping windows rests on."""

from __future__ import annotations

import numpy as np

from tiny_models import as_records, make_engine


def test_a_token_s_margin_is_its_distance_to_the_nearer_cut_and_uncut_ends_do_not_count() -> None:
    rows = [{"text": " ".join(f"w{i}" for i in range(40)), "pos": ["A", "B"] * 20}]
    settings = {"text": {"max_tokens": 32, "overlap": 12}}
    engine = make_engine(rows, {"pos": "tagging"}, inputs={"text": "text"}, settings=settings)
    layouts = engine.encoder.encode(as_records(rows), with_targets=False).layouts
    assert len(layouts) > 2
    for number, layout in enumerate(layouts):
        assert layout is not None
        here = np.flatnonzero(layout.row == 0)
        to_cuts = []
        if number > 0:
            to_cuts.append(here - here[0])
        if number < len(layouts) - 1:
            to_cuts.append(here[-1] - here)
        assert layout.margin[here].tolist() == np.min(to_cuts, axis=0).tolist()
