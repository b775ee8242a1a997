"""Text and image encoders: built from their specs (``polydetr.specs``), with random or with pretrained weights."""
