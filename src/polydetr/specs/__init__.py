"""What a backbone's files say of it, before any of it is built: no torch here."""
