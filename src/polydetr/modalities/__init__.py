"""How raw values become tokens, without torch: one file per modality, found by name (``core.plugs.MODALITIES``)."""
