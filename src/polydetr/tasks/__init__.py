"""What can be predicted, in numbers: one file per task, found by name in ``core.plugs.TASKS``. No tensors here."""
