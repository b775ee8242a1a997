"""A trained model without its training: load it, predict, evaluate, explain."""
