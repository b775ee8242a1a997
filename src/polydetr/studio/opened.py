"""The pages of a service, from what ``polydetr serve`` was told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from polydetr.errors import ConfigError
from polydetr.serving.contract import Fleet
from polydetr.serving.run import Wanted
from polydetr.studio.ask import add_ask
from polydetr.studio.batch import add_batch
from polydetr.studio.correct import add_correct
from polydetr.studio.gallery_page import ASKED, add_gallery
from polydetr.studio.model import add_model
from polydetr.studio.pages import Studio, StudioPages
from polydetr.studio.runs import add_runs
from polydetr.web.people.people import People
from polydetr.web.store.database import Database

PAGES = (add_ask, add_batch, add_correct, add_model, add_runs)


def studio_pages(
    wanted: Wanted, *, store: str, runs: Path | None = None, may_train: bool | None = None
) -> Callable[[Fleet], StudioPages]:
    """Opens the store, and makes the pages once the models are loaded. may_train: None: where only this machine
    reaches them, itself and not by way of a reverse proxy.

    Raises:
        ConfigError: others reach the pages, and no person was set up who could sign in. StoreUnavailable.
    """
    database = Database.open(store)
    people = People(database)
    if not people.any():
        if wanted.reached_at:
            raise ConfigError(
                f"everybody who reaches {wanted.reached_at} could use the pages: nobody has to sign in.",
                hint="Make an admin: polydetr people add --role admin NAME; or serve without pages: --no-studio.",
            )
        people = None
    may_train = not wanted.reached_at if may_train is None else may_train

    def made(fleet: Fleet) -> StudioPages:
        studio = Studio(
            fleet, database, people=people, runs=runs, may_train=may_train, limits=wanted.limits,
            root_path=wanted.root_path, with_key=wanted.keys is not None,
        )  # fmt: skip
        return StudioPages(studio, (*PAGES, add_gallery) if os.environ.get(ASKED) == "1" else PAGES)

    return made
