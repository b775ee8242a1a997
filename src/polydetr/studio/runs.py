"""The page Runs: the folder of trainings, those under way among them; one, several beside each other, a new one.

``?run=`` shows one, ``?compare=`` several, ``?new=1`` starts one.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from nicegui import app, ui
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from polydetr.errors import InputError, ModelFolderError, PolydetrError
from polydetr.inference.folder import own_file
from polydetr.inference.runs import list_runs
from polydetr.inference.saved_run import SavedRun
from polydetr.serving.refusal import Refused
from polydetr.studio.new_training import NewTraining
from polydetr.studio.pages import UPLOAD_BYTES, Studio, View
from polydetr.studio.run_detail import compare_part, run_part
from polydetr.studio.run_words import MOST_COMPARED
from polydetr.studio.runs_list import RunsList
from polydetr.studio.sent_files import SentFiles, json_response, told
from polydetr.studio.trainings import Started, Trainings
from polydetr.web.markup import link
from polydetr.web.notices import empty, failure
from polydetr.web.people.audit import Audit


def add_runs(studio: Studio) -> None:
    """The address."""
    trainings = None
    if studio.runs is not None and studio.may_train:

        def ended(started: Started) -> None:
            how = "stopped" if started.stopping else "finished" if started.code == 0 else "failed"
            asyncio.get_running_loop().run_in_executor(
                None, _note, studio, "(service)", f"training {how}", started.name
            )

        trainings = Trainings(studio.runs.resolve(), ended=ended)
        app.on_shutdown(trainings.close)

    sent = SentFiles(studio.runs.resolve(), most=UPLOAD_BYTES) if studio.runs is not None and trainings else None

    @app.post("/runs/upload/rows")
    @told
    async def upload(request: Request) -> Response:
        person = await studio.person_of(request.cookies)
        if sent is None or person is None or person.role != "admin":
            raise Refused(403, "only an admin can start a training here.", reason="role")
        return json_response({"id": await sent.take(request)})

    @ui.page("/runs")
    async def runs(request: Request) -> None:
        view = await studio.begin(request, "runs")
        if view is None:
            return
        with view.main:
            if studio.runs is None:
                empty(view.words("runs.no_folder"), how=view.words("runs.no_folder.how"))
                return
            await _filled(view, request, studio.runs, trainings, sent)

    @app.get("/runs/picture/{name}/{file}")
    async def picture(name: str, file: str) -> Response:
        """A diagram of a run's report."""
        try:
            if studio.runs is None or not file.endswith(".png"):
                raise ModelFolderError("there is no such picture.")
            run = await asyncio.to_thread(_one, name, studio.runs)
            return FileResponse(own_file(run.folder, f"reports/{Path(file).name}"), media_type="image/png")
        except (PolydetrError, OSError):
            return Response(status_code=404)


async def _filled(
    view: View, request: Request, folder: Path, trainings: Trainings | None, sent: SentFiles | None
) -> None:
    words, asked = view.words, request.query_params
    names = [name[:255] for name in asked.getlist("compare")]
    if "run" in asked or names or "new" in asked:
        link(words("runs.all"), f"{view.studio.base}/runs", icon="back", classes="pd-back")
    try:
        if "new" in asked:
            NewTraining(view, trainings, sent).build()
        elif "run" in asked:
            run_part(view, await asyncio.to_thread(_one, asked["run"][:255], folder))
        elif names:
            if not 2 <= len(dict.fromkeys(names)) <= MOST_COMPARED:
                raise InputError(words("runs.compare.count", most=MOST_COMPARED))
            every = {run.name: run for run in await asyncio.to_thread(list_runs, folder)}
            missing = next((name for name in names if name not in every), None)
            if missing is not None:
                raise InputError(words("runs.missing", name=missing))
            compare_part(view, [every[name] for name in dict.fromkeys(names)])
        else:
            await RunsList(view, folder, trainings).build()
    except PolydetrError as error:
        failure(view.viewer.words, error)


def _one(name: str, folder: Path) -> SavedRun:
    """The run of exactly this name in the folder: nothing outside of it is looked at. Blocks. Raises InputError."""
    if Path(name).name != name or name in ("", ".", ".."):
        raise InputError(f"there is no run {name!r:.80}.")
    found = next((run for run in list_runs(folder) if run.name == name), None)
    if found is None:
        hint = "It may have been removed or renamed."
        raise InputError(f"there is no run {name!r:.80} in {folder.name!r}.", hint=hint)
    return found


def _note(studio: Studio, who: str, action: str, about: str) -> None:
    Audit(studio.database).note(who, action, about)
