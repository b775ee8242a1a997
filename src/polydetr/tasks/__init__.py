"""The half of each task without tensors: one file per task, found by name in ``core.plugs.TASKS``."""
