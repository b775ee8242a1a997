"""Better settings, searched for: spaces, studies that are kept in a database, and the trials between them."""
