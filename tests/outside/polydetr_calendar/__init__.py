"""A package as others may write it: the task "interval" and the modality "weekdays", found by entry points alone."""
