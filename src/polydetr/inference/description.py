"""The form of ``polydetr.json``: types and ranges, checked before anything is built from it.

What a task has learned and what a modality has are checked by their own classes (``Task.Learned``, the specs, the
columns), and their sizes against the header of the weights (``model.sizes``).
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from polydetr.config.sections import ModelConfig


def _inside(name: str) -> str:
    """Raises ValueError where a file of the folder is said to lie outside of it."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or any(c in name for c in "\\:\0"):
        raise ValueError("not a name of a file in this folder")
    return name


class _Part(BaseModel):
    """Unknown keys are left to those who know them."""

    model_config = ConfigDict(
        defer_build=True, extra="allow", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class FileEntry(_Part):
    """The sha256, in hexadecimal, and the size of a file."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class _Input(_Part):
    name: str
    modality: str


class _Target(_Part):
    name: str
    task: str


class _Schema(_Part):
    inputs: list[_Input]
    targets: list[_Target]
    notes: list[str] = []


class _Modality(_Part):
    fields: list[str]
    config: dict[str, Any] = {}
    needs: dict[str, bool | float] = {}


class _Task(_Part):
    kind: str
    target: str
    config: dict[str, Any]


class _Training(_Part):
    precision: Literal["fp32", "bf16"] = "fp32"


class _Prediction(_Part):
    precision: Literal["fp32", "bf16", "int8"] = "fp32"


class _Reading(_Part):
    images: str | None = None


class _Image(_Part):
    root: str | None = None


class _Config(_Part):
    """Of the configuration of the training, what asking looks at: the folder that was named for the images."""

    reading: _Reading = _Reading()
    image: _Image = _Image()


class GraphEntry(_Part):
    """A graph of an exported model. reads: the names of what goes in; gives: its own name of an output → the target's
    and the output's; neither is there where it is one step of generating the images of the target ``step_of``.
    """

    reads: list[str] | None = None
    gives: dict[str, Annotated[list[str], Field(min_length=2, max_length=2)]] | None = None
    step_of: str | None = None

    @model_validator(mode="after")
    def _says_what_it_is_for(self) -> GraphEntry:
        """Raises ValueError."""
        if (self.step_of is None) != (self.reads is not None and self.gives is not None):
            raise ValueError("either what a graph reads and gives, or whose step it is")
        return self


class Export(_Part):
    """How a model was exported. graphs: by the names of their files."""

    format: int = Field(ge=1)
    runtime: str
    opset: int
    precision: Literal["fp32", "int8"]
    graphs: dict[Annotated[str, AfterValidator(_inside)], GraphEntry] = Field(min_length=1)


class Description(_Part):
    """A whole description, of this format or an older one."""

    format_version: int = Field(ge=1)
    schema_: _Schema = Field(alias="schema")
    modalities: dict[str, _Modality] = Field(min_length=1)
    tasks: dict[str, _Task] = Field(min_length=1)
    context: bool
    model: ModelConfig
    files: dict[Annotated[str, AfterValidator(_inside)], FileEntry] = Field(min_length=1)
    config: _Config = _Config()
    training: _Training = _Training()
    prediction: _Prediction = _Prediction()
    metrics: dict[str, dict[str, dict[str, Annotated[float | None, Field(allow_inf_nan=True)]]]] = {}
    embed_dim: int = Field(default=0, ge=0)
    export: Export | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Description:
        """Raises ValueError where tasks, schema and modalities tell of different models."""
        of_schema = {target.name: target.task for target in self.schema_.targets}
        if {name: task.kind for name, task in self.tasks.items()} != of_schema:
            raise ValueError("schema and tasks name other targets")
        if any(name != task.target for name, task in self.tasks.items()):
            raise ValueError("a task is that of another target")
        return self
