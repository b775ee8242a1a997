"""Applications on the public face."""
