"""The shape annotations of ``polydetr.nn``, executed.

The package itself never imports jaxtyping: its annotations are strings. Here they are resolved, and each public
function is wrapped so that beartype checks every tensor that goes in or comes out, its letters bound call by call.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterator

import jaxtyping
from beartype import beartype

MODULES = ("attention", "encoder", "flow", "lora", "pooling", "positions")
_SHAPES = {name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Int64")}


@functools.cache
def checked(function: types.FunctionType) -> Callable[..., object]:
    """The function with its string annotations resolved and enforced."""
    copy = types.FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    copy.__kwdefaults__, copy.__module__, copy.__qualname__ = (
        function.__kwdefaults__,
        function.__module__,
        function.__qualname__,
    )
    copy.__annotations__ = typing.get_type_hints(function, globalns=function.__globals__ | _SHAPES)
    return jaxtyping.jaxtyped(copy, typechecker=beartype)


def annotated_functions() -> Iterator[tuple[object, str, types.FunctionType]]:
    """(owner, attribute, function) of every public function and method, and ``forward``, that names a shape."""
    for name in MODULES:
        module = importlib.import_module(f"polydetr.nn.{name}")
        for owner in (
            module,
            *(c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__),
        ):
            for attribute, function in list(vars(owner).items()):
                public = isinstance(function, types.FunctionType) and not attribute.startswith("_")
                if public and "Tensor," in " ".join(map(str, function.__annotations__.values())):
                    yield owner, attribute, function
