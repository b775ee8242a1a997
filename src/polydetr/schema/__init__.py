"""What the columns hold: given by the user, or inferred from a sample of rows."""

from polydetr.schema.infer import infer_schema
from polydetr.schema.spec import FieldSpec, Schema, TargetSpec

__all__ = ["FieldSpec", "Schema", "TargetSpec", "infer_schema"]
