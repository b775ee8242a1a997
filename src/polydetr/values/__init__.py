"""One raw value each, read and checked: cells, spans, tags, images, objects."""
