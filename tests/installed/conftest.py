"""Wheels of this checkout, installed where nothing else is. It takes a package index, and a minute."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from markdown_blocks import ROOT

sys.path.append(str(ROOT / "benchmarks"))
from clean_environment import Environment, NoIndexError, build, check_index


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mapping[str, Path]]:
    """Project → kind → file; the wheels are made of the archives of sources."""
    try:
        check_index()
    except NoIndexError as error:
        pytest.skip(f"needs a package index, and none answers: {error}")
    return build(tmp_path_factory.mktemp("built"), kinds=("wheel", "sdist"))


@pytest.fixture(scope="session")
def core_with(
    built: Mapping[str, Mapping[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Environment]:
    """Extras of polydetr-core ("" or "[cli]") → an environment that holds nothing else, made once."""
    made: dict[str, Environment] = {}

    def environment(extras: str) -> Environment:
        if extras not in made:
            folder = tmp_path_factory.mktemp("environment")
            made[extras] = Environment.make(folder, f"{built['polydetr-core']['wheel']}{extras}")
        return made[extras]

    return environment
