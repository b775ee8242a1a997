"""A trained model without its training: load it, ask it, measure it, have it explained."""
