"""What the columns hold: given by the user, or inferred from a sample of rows."""
