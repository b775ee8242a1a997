"""Every test of this folder runs with the shape annotations of ``polydetr.nn`` executed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from shapes_nn import annotated_functions, checked


@pytest.fixture(scope="module", autouse=True)
def shapes_are_checked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for owner, attribute, function in annotated_functions():
            patch.setattr(owner, attribute, checked(function))
        yield
