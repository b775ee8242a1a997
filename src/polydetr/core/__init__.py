"""What travels between the rooms: rows, examples, answers; NumPy at most."""
