"""deploy/: what can be said of its files without an engine that runs them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from image_steps import copied, only, stages_of

from markdown_blocks import ROOT

DEPLOY = ROOT / "deploy"
STAGES = stages_of(DEPLOY / "Dockerfile")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["polydetr"]
USER = 10001


def test_the_image_is_small_and_not_root() -> None:
    build, final = STAGES
    bases = {step.rest.split()[0] for stage in STAGES for step in stage if step.word == "FROM"}
    (base,) = bases  # the environment of the first stage runs in the second only on the same Python
    assert re.fullmatch(r"python:3\.\d+-slim", base)
    assert not any(step.word == "ADD" for stage in STAGES for step in stage)
    assert [step.rest for step in final if step.word == "COPY"] == ["--from=build /opt/polydetr /opt/polydetr"]
    words = [step.word for step in final]
    assert only(final, "USER").rest == str(USER)
    assert words.index("USER") < words.index("CMD")
    assert f"--uid {USER}" in next(step.rest for step in final if "useradd" in step.rest)
    assert "torch" not in " ".join(step.rest for step in build + final)
    assert only(final, "HEALTHCHECK").rest.partition("CMD ")[2].startswith('["python", "-c"')
    assert "/healthz" in only(final, "HEALTHCHECK").rest


def test_what_the_build_reads_is_let_through_and_nothing_else() -> None:
    taken = {path.name for path in copied(ROOT, DEPLOY / "Dockerfile.dockerignore")}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = {project["project"]["readme"], "pyproject.toml", "LICENSE", "src"}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"])
    assert taken == needed
    assert all((ROOT / name).exists() for name in taken)


def test_compose_runs_the_image_read_only_and_behind_a_proxy() -> None:
    assert COMPOSE["read_only"] is True
    assert COMPOSE["cap_drop"] == ["ALL"]
    assert COMPOSE["security_opt"] == ["no-new-privileges:true"]
    assert all(volume.endswith(":ro") for volume in COMPOSE["volumes"])
    assert all(port.startswith("127.0.0.1:") for port in COMPOSE["ports"])
    assert COMPOSE["command"][: len(only(STAGES[1], "CMD").words)] == only(STAGES[1], "CMD").words
    assert (DEPLOY / COMPOSE["build"]["context"] / COMPOSE["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"


def unit() -> configparser.ConfigParser:
    found = configparser.ConfigParser(interpolation=None, strict=False)
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read(DEPLOY / "polydetr.service", encoding="utf-8")
    return found


def test_the_unit_gives_the_service_few_rights() -> None:
    service = unit()["Service"]
    asked = {"DynamicUser", "PrivateTmp", "PrivateDevices", "ProtectHome", "NoNewPrivileges", "RestrictNamespaces"}
    assert all(service[name] == "yes" for name in asked)
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["KillMode"] == "mixed"  # so that the front process can answer what it has accepted
    credential, _, file = service["LoadCredential"].partition(":")
    assert service["ExecStart"].endswith(f"--keys ${{CREDENTIALS_DIRECTORY}}/{credential}")
    assert file.startswith("/etc/polydetr/")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    """Where its program is one that is there."""
    text = (DEPLOY / "polydetr.service").read_text(encoding="utf-8")
    place = tmp_path / "polydetr.service"
    place.write_text(text.replace("/opt/polydetr/bin/polydetr serve", f"{sys.executable} serve"), encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", place], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    offline = ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", place]
    if "offline" in subprocess.run(["systemd-analyze", "--help"], capture_output=True, text=True).stdout:
        done = subprocess.run(offline, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout.splitlines()[-1]  # an exposure of 2.0 of 10 at most


def test_what_no_engine_has_built_says_so() -> None:
    for name in ("Dockerfile", "compose.yaml", "polydetr.service"):
        assert re.search(r"Not (built|run|started) by the tests", (DEPLOY / name).read_text(encoding="utf-8")), name
