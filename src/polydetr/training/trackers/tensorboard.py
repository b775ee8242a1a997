"""TensorBoard's event files, which ``tensorboard --logdir`` shows while the run goes on.

Written by TensorBoard's own record format, without torch or TensorFlow and without a thread: a disk that is full is
known at once.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from polydetr.core.files import file_names
from polydetr.training.trackers.base import Status, TrackedRun, Tracker


class TensorBoard(Tracker):
    """Event files in ``tensorboard/[GROUP/]NAME``: the trials of a study are folders beside one another."""

    def __init__(self, run: TrackedRun) -> None:
        super().__init__(run)
        # Generated from protocol buffers: no type checker sees their names.
        from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event: Any = event_pb2
        self._summary: Any = summary_pb2
        self._tensor: Any = tensor_pb2
        self._string = types_pb2.DT_STRING  # pyright: ignore[reportAttributeAccessIssue]
        folder = run.place / "tensorboard"
        for part in file_names([run.group]).values() if run.group else ():
            folder /= part
        folder /= run.name
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        self._resumes = run.resumed
        self._write(self._event.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if not run.resumed:
            self.text("settings", yaml.safe_dump(dict(run.config), sort_keys=False, allow_unicode=True), step=0)

    def scalars(self, values: Mapping[str, float], *, step: int) -> None:
        points = [self._summary.Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(points, step)

    def text(self, name: str, text: str, *, step: int) -> None:
        self._markdown(name, "\n".join("    " + line for line in text.splitlines()), step)  # as it stands

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, step: int) -> None:
        lines = [columns, ["---"] * len(columns), *rows]
        self._markdown(name, "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines), step)

    def picture(self, name: str, png: bytes, *, step: int) -> None:
        width, height = struct.unpack(">II", png[16:24])  # of the first chunk, IHDR
        image = self._summary.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._add([self._summary.Summary.Value(tag=name, image=image)], step)

    def summary(self, values: Mapping[str, Any], *, step: int) -> None:
        self.table("summary", ["what", "value"], [[name, value] for name, value in values.items()], step=step)

    def close(self, status: Status) -> None:
        self._file.close()

    def _markdown(self, name: str, text: str, step: int) -> None:
        plugin = self._summary.SummaryMetadata.PluginData(plugin_name="text")
        tensor = self._tensor.TensorProto(dtype=self._string, string_val=[text.encode(errors="replace")])
        metadata = self._summary.SummaryMetadata(plugin_data=plugin)
        self._add([self._summary.Summary.Value(tag=name, metadata=metadata, tensor=tensor)], step)

    def _add(self, values: Sequence[Any], step: int) -> None:
        if self._resumes:  # what was recorded after the checkpoint, from which the run went on, is repeated
            self._resumes = False
            log = self._event.SessionLog(status=self._event.SessionLog.START)
            self._write(self._event.Event(wall_time=time.time(), step=step, session_log=log))
        self._write(self._event.Event(wall_time=time.time(), step=step, summary=self._summary.Summary(value=values)))

    def _write(self, event: Any) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
