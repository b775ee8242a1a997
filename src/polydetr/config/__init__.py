"""Validated configuration. A YAML file, keyword arguments and ``--set key=value`` fill the same objects."""
