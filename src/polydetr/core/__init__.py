"""What the packages hand one another: rows, examples, predictions; NumPy at most."""
