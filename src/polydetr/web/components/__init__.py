"""Parts of pages that have a script of their own in the browser. They know texts, images and labels, and no models."""
