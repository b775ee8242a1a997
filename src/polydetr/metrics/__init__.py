"""Scores, in NumPy and SciPy alone: gold and predicted values in, frozen reports with ``to_dict()`` out."""
