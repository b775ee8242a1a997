"""The pages of a served model: ask, batch, correct, look at its measurements, and at runs."""
