"""Long files: taken, told of, fetched, cancelled; bounded; nobody else's; never half."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from running_service import Service

from polydetr.serving.contract import Busy, TooLate
from polydetr.serving.keys import KeyFile
from polydetr.serving.limits import JobLimits

JOBS = "/v1/jobs?model=film"
CSV = {"content-type": "text/csv"}
FILE = "text,id\n" + "".join(f"a warm evening,{i}\n" for i in range(600)) + "a,b,c\n"


def ended(client: Any, id: str, *, headers: dict[str, str] | None = None) -> dict[str, Any]:
    for _ in range(400):
        told = client.get(f"/v1/jobs/{id}", headers=headers).json()
        if told["state"] not in ("waiting", "running"):
            return told
        time.sleep(0.02)
    raise AssertionError(told)


def begin(client: Any, content: Any = FILE, *, status: int = 202, **how: Any) -> dict[str, Any]:
    answer = client.post(how.pop("path", JOBS), content=content, headers=CSV | how.pop("headers", {}), **how)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_file_is_answered_row_by_row(service: Service, tmp_path: Path) -> None:
    client = service(jobs=tmp_path / "jobs")
    job = begin(client)
    told = ended(client, job["id"])
    assert (told["state"], told["rows_done"], told["rows_rejected"], told["share_done"]) == ("done", 601, 1, 1.0)
    answer = client.get(f"/v1/jobs/{job['id']}/result")
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["row"] for line in lines] == list(range(1, 602))
    assert "expected 2" in lines[600]["error"]["message"]
    folders = list((tmp_path / "jobs").iterdir())
    assert len(folders) == 1
    assert stat.S_IMODE((tmp_path / "jobs").stat().st_mode) == 0o700
    assert not (folders[0] / "rows" / "rows.csv").exists()
    assert client.delete(f"/v1/jobs/{job['id']}").status_code == 200
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 404
    assert list((tmp_path / "jobs").iterdir()) == []


def test_answers_as_a_table(service: Service) -> None:
    client = service()
    job = begin(client, "text,id\n=1+1,=2\na,3\n", headers={"accept": "text/csv"})
    ended(client, job["id"])
    answer = client.get(f"/v1/jobs/{job['id']}/result")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["text"] for row in rows] == ["'=1+1", "a"]
    assert [row["id"] for row in rows] == ["'=2", "3"]
    assert all(row["predicted_label"] for row in rows)


def test_a_job_waits_where_requests_are_many(service: Service) -> None:
    client = service()
    client.fleet.failing += [Busy("full", retry_after=0.01)] * 2
    assert ended(client, begin(client, "text\na\n")["id"])["state"] == "done"


def test_rows_that_are_too_slow_together_are_asked_in_parts(service: Service) -> None:
    client = service()
    client.fleet.failing += [TooLate()] * 2
    told = ended(client, (job := begin(client, "text\n" + "a\n" * 9))["id"])
    assert (told["state"], told["rows_done"]) == ("done", 9)
    assert [len(rows) for rows in client.fleet.asked] == [2, 2, 5]
    lines = client.get(f"/v1/jobs/{job['id']}/result").text.splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(1, 10))
    client.fleet.failing += [TooLate()]
    assert "was over before it was answered" in ended(client, begin(client, "text\na\n")["id"])["error"]["message"]


def test_what_cannot_be_answered_fails_and_says_why(service: Service) -> None:
    client = service()
    told = ended(client, begin(client, "txt\na\n")["id"])
    assert told["state"] == "failed"
    assert "no column 'text'" in told["error"]["message"]
    told = ended(client, begin(client, "PK\x03\x04")["id"])
    assert "zip archive" in told["error"]["message"]
    answer = client.get(f"/v1/jobs/{told['id']}/result")
    assert answer.status_code == 409
    client.fleet.failing += [RuntimeError("/secret/path")]
    told = ended(client, begin(client, "text\na\n")["id"])
    assert told["error"] == {"message": "the service failed."}


def test_what_is_refused_at_once(service: Service) -> None:
    client = service(job_limits=JobLimits(file_bytes=1000, count=2))
    client.fleet.hold = asyncio.Event()
    begin(client, "x" * 1001, status=413)
    begin(client, (b"x" * 100 for _ in range(20)), status=413)
    begin(client, "", status=400)
    begin(client, "text\na\n", status=404, path="/v1/jobs?model=flim")
    begin(client, "text\na\n", status=400, path="/v1/jobs")
    begin(client, "text\na\n", status=400, path=JOBS + "&sed=1")
    begin(client, "text\na\n", status=415, headers={"content-type": "application/zip"})
    jobs = [begin(client, "text\na\n")["id"] for _ in range(2)]
    told = begin(client, "text\na\n", status=429)["error"]["message"]
    assert "as many as are kept. Delete one of yours (DELETE /v1/jobs/ID)" in told
    client.delete(f"/v1/jobs/{jobs[1]}")
    begin(client, "text\na\n")


def test_nobody_is_kept_out_by_the_ended_jobs_of_another(service: Service, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    ours, theirs = ({"authorization": f"Bearer {keys.add(name)}"} for name in ("ours", "theirs"))
    client = service(keys=keys, job_limits=JobLimits(count=3))

    def sent(headers: dict[str, str]) -> str:
        id = begin(client, "text\na\n", headers=headers)["id"]
        assert ended(client, id, headers=headers)["state"] == "done"
        return id

    def kept(*ids: str, headers: dict[str, str]) -> list[bool]:
        return [client.get(f"/v1/jobs/{id}", headers=headers).status_code == 200 for id in ids]

    first = [sent(theirs) for _ in range(3)]
    second = [sent(ours)]  # in place of one of who has three
    assert kept(*first, headers=theirs) == [False, True, True]
    first += [sent(theirs)]  # in place of one's own
    assert kept(*first, headers=theirs) == [False, False, True, True]
    second += [sent(ours)]
    assert kept(*second, headers=ours) == [False, True]
    assert kept(*first[2:], headers=theirs) == [True, True]


def test_the_disk_bound_counts_what_lies_there(service: Service, tmp_path: Path) -> None:
    client = service(jobs=tmp_path, job_limits=JobLimits(disk_bytes=25_000))
    jobs: list[str] = []
    long = "text,pad\na," + "x" * 10_000 + "\n"
    for content, state in ((long, "done"), (long, "done"), ("txt\na\n", "failed"), (long, "done")):
        jobs.append(begin(client, content)["id"])
        assert ended(client, jobs[-1])["state"] == state
    assert [client.get(f"/v1/jobs/{id}").status_code for id in jobs] == [200] * 4  # no room had to be made
    assert not list(tmp_path.rglob("*.part"))


def test_the_disk_is_bounded_results_among_it(service: Service, tmp_path: Path) -> None:
    client = service(jobs=tmp_path, job_limits=JobLimits(disk_bytes=3000))
    begin(client, "x" * 3001, status=413)
    told = ended(client, begin(client, "text\n" + "a\n" * 600)["id"])
    assert told["state"] == "failed"
    assert "more than 3,000 bytes" in told["error"]["message"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
def test_a_full_disk_is_told_and_nothing_is_left(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service(jobs=tmp_path)
    opened = Path.open

    def full(path: Path, *arguments: Any, **named: Any) -> Any:
        if path.name == "rows.csv":
            raise OSError(28, "No space left on device")
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", full)
    told = begin(client, "text\na\n", status=503)["error"]
    assert "No space left" in told["message"]
    assert str(tmp_path) not in json.dumps(told)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    begin(client, "text\na\n")


def test_a_job_is_its_owners_alone(service: Service, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    ours, theirs = ({"authorization": f"Bearer {keys.add(name)}"} for name in ("ours", "theirs"))
    client = service(keys=keys)
    job = begin(client, "text\na\n", headers=ours)["id"]
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/result")):
        assert client.request(method, f"/v1/jobs/{job}{path}", headers=theirs).status_code == 404
    assert ended(client, job, headers=ours)["state"] == "done"


def test_a_running_job_is_cancelled(service: Service, tmp_path: Path) -> None:
    client = service(jobs=tmp_path)
    client.fleet.hold = asyncio.Event()
    first, second = begin(client, "text\na\n")["id"], begin(client, "text\na\n")["id"]
    for _ in range(100):
        if client.get(f"/v1/jobs/{first}").json()["state"] == "running":
            break
        time.sleep(0.01)
    assert client.get(f"/v1/jobs/{second}").json()["state"] == "waiting"  # one at a time
    assert client.delete(f"/v1/jobs/{first}").json()["state"] == "cancelled"
    assert client.delete(f"/v1/jobs/{second}").json()["state"] == "cancelled"
    assert list(tmp_path.iterdir()) == []


def test_jobs_are_forgotten_after_a_time(service: Service, tmp_path: Path) -> None:
    client = service(jobs=tmp_path, job_limits=JobLimits(kept_s=0.05))
    job = begin(client, "text\na\n")["id"]
    for _ in range(200):
        if client.get(f"/v1/jobs/{job}").status_code == 404 and not list(tmp_path.iterdir()):
            break
        time.sleep(0.02)
    else:
        raise AssertionError


def test_a_start_forgets_what_another_left_and_nothing_else(service: Service, tmp_path: Path) -> None:
    (tmp_path / ("a" * 32)).mkdir()
    (tmp_path / ("a" * 32) / "answers.part").write_text("half")
    (tmp_path / "mine.txt").write_text("kept")
    service(jobs=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.skipif(os.name != "posix", reason="links")
def test_a_name_that_somebody_else_has_taken_is_not_used(service: Service, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs" / ("a" * 32)
    theirs.mkdir(parents=True)
    (tmp_path / "jobs").symlink_to(tmp_path / "theirs")
    client = service(jobs=tmp_path / "jobs")
    assert ended(client, begin(client, "text\na\n")["id"])["state"] == "done"
    assert [p.name for p in (tmp_path / "theirs").iterdir()] == [theirs.name]


def test_a_row_of_a_file_opens_no_file(service: Service) -> None:
    """A path in a cell is a text; a reader that looks for images is not chosen by a file's content."""
    content = "image,text,xmin,ymin,xmax,ymax,label\n/etc/passwd,a,1,1,2,2,x\n"
    client = service()
    job = begin(client, content)["id"]
    told = ended(client, job)
    assert (told["state"], told["rows_done"]) == ("done", 1)
    assert "root:" not in client.get(f"/v1/jobs/{job}/result").text
