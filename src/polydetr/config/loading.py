"""A configuration from YAML, keyword arguments and ``--set key=value``, which have the same keys.

Every fault is reported at once, each with its key and the nearest valid one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from polydetr.config.sections import Config
from polydetr.config.yaml_text import YamlFault, read_yaml
from polydetr.core.reading import ReadOptions
from polydetr.errors import FAULTS_SHOWN, ConfigError, did_you_mean, fault_reason, first_of, quoted, shown

PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"epochs": 2, "steps": 600, "training": {"patience": 0, "min_steps": 300}},
    "balanced": {"epochs": 5, "steps": 2000, "training": {"min_steps": 600}},
    "best": {"epochs": 12, "steps": 6000, "training": {"patience": 4, "ema_decay": 0.999, "min_steps": 1200}},
}

FOR_TASK: dict[str, dict[str, dict[str, Any]]] = {
    "detection": {
        "image": {"size": 416},
        "training": {"lr": 2e-4, "head_lr": 5e-4, "ema_decay": 0.998, "weight_decay": 1e-4},
    }
}
"""Task → section → its defaults for that task, where they differ from those of ``sections``."""

EXAMPLES = Path(__file__).parents[1] / "configs"
"""The examples that the wheel brings: ``configs/ner.yaml`` names one where there is no such file here."""

_MOST_SECTIONS = 8


def load_config(source: str | Path | Mapping[str, Any] | None = None, **overrides: Any) -> Config:
    """Reads YAML or a mapping, lays the preset under it and ``overrides`` (None = not given) over it.

    Raises:
        ConfigError: with every fault found, each on a line of its own.
    """
    is_file = isinstance(source, (str, Path))
    values = _renamed(_read_yaml(Path(source)) if is_file else source or {})
    values = merge(values, {k: v for k, v in overrides.items() if v is not None})
    for key in ("target", "inputs"):
        if values.get(key) is not None:
            values[key] = names_of(values[key])
    if isinstance(values.get("tasks"), Mapping):
        values["tasks"] = {str(name): options for name, options in values["tasks"].items()}
    preset = PRESETS.get(str(values.get("preset", "balanced")), {})
    if values.get("epochs") is not None:  # whoever counts in epochs wants no more of them
        preset = {key: value for key, value in preset.items() if key != "steps"}
        preset["training"] = {key: v for key, v in preset.get("training", {}).items() if key != "min_steps"}
    values = {k: v for k, v in values.items() if not (v is None and k in preset)}  # "epochs:" left empty in a file
    try:
        return Config.model_validate(merge(preset, values))
    except ValidationError as error:
        raise config_error(fault_lines(error.errors(), Config), file=str(source) if is_file else None) from None


def for_tasks(config: Config, tasks: Iterable[str]) -> Config:
    """The configuration with what suits these tasks (``FOR_TASK``), where neither user nor preset set it."""
    for task in tasks:
        for name, wanted in FOR_TASK.get(task, {}).items():
            section = getattr(config, name)
            fresh = {key: value for key, value in wanted.items() if key not in section.model_fields_set}
            config = config.model_copy(update={name: section.model_copy(update=fresh)})
    return config


def names_of(value: Any) -> dict[str, Any] | None:
    """``"label"``, ``"label:classification"``, several such, or a mapping → name → kind (None: to be inferred); None
    where nothing was named. A name may be a number, as columns of a data frame have them.

    The last colon parts the two: a column that has one in its own name is written with another at its end, "a:b:".
    """
    if value is None or isinstance(value, Mapping):
        return None if value is None else {str(name): kind for name, kind in value.items()}
    pairs = (str(item).rpartition(":") for item in (value if isinstance(value, (list, tuple)) else [value]))
    return {name: kind or None for name, kind in ((a, b) if colon else (b, "") for a, colon, b in pairs)}


def load_config_mapping(config: str | Path | Mapping[str, Any] | None) -> dict[str, Any]:
    """A configuration's own keys, without defaults, so that arguments can be laid over them."""
    if config is None:
        return {}
    if isinstance(config, Mapping):
        return _renamed(config)
    load_config(config)  # names the file where something is wrong in it
    return _renamed(_read_yaml(Path(config)))


def config_of_call(
    rows: Mapping[str, Any], config: str | Path | Mapping[str, Any] | None, settings: Mapping[str, Any] | None,
    reading: ReadOptions | None, *, target: Any, inputs: Any, **given: Any,
) -> Config:  # fmt: skip
    """A configuration with all that a call of ``Predictor.fit`` gives beside it. Raises ConfigError."""
    how = reading.given() if reading else {}
    on_error = how.pop("on_error", None)
    return load_config(
        merge(merge(load_config_mapping(config), load_config_mapping(settings)), {"reading": how}),
        on_error=on_error,
        target=names_of(target),
        inputs=names_of(inputs),
        **given,
        **{k: v for k, v in rows.items() if isinstance(v, str)},
    )


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same settings under today's keys: ``format`` and ``encoding`` once stood at the top."""
    old = {key: values[key] for key in ("format", "encoding") if key in values}
    rest = {key: value for key, value in values.items() if key not in old}
    return merge({"reading": old}, rest) if old else rest


def parse_settings(settings: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """``["training.lr=1e-4", "text.context=false"]`` → nested mapping; values are read as YAML.

    Raises:
        ConfigError: a setting has no key or no value, or the value is no YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, value = _key_of(setting)
        if not key:
            raise ConfigError(f"{quoted(setting)} is not of the form key=value, for example training.lr=1e-4")
        try:
            parsed = read_yaml(value)
        except YamlFault as fault:
            raise ConfigError(f"{quoted(setting)}: {fault.message}; put text in quotes.") from None
        if isinstance(parsed, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", parsed):
            parsed = float(parsed)  # YAML 1.1 reads 1e-4 as text
        *sections, name = key
        if len(sections) > _MOST_SECTIONS:
            raise ConfigError(f"{quoted(setting)}: no key has more than {_MOST_SECTIONS} sections")
        setting_tree: dict[str, Any] = {name: parsed}
        for section in reversed(sections):
            setting_tree = {section: setting_tree}
        nested = merge(nested, setting_tree)
    return nested


_PART = re.compile(r"""("[^"]*"|'[^']*'|(?:\\.|[^.=\\])+)([.=])""")


def _key_of(setting: str) -> tuple[list[str], str]:
    """The parts of the key and the text of the value; no parts where the setting has another form. A part that holds a
    dot is quoted, ``tasks."net.price".loss_weight=2``, or has a backslash before the dot.
    """
    parts: list[str] = []
    place = 0
    while match := _PART.match(setting, place):
        part, end, place = match[1], match[2], match.end()
        parts.append(part[1:-1] if part[0] in "\"'" and part[-1] == part[0] else re.sub(r"\\(.)", r"\1", part))
        if end == "=":
            return parts, setting[place:]
    return [], ""


def split_key(key: str) -> list[str]:
    """``'tasks."net.price".loss_weight'`` → its parts, as ``--set`` reads them; [] where it is none."""
    return _key_of(f"{key}=")[0]


def join_key(parts: Iterable[str]) -> str:
    """The key that ``split_key`` reads into these parts."""
    return ".".join(f'"{part}"' if re.search(r"""[.=\\"']""", part) else part for part in parts)


def is_given(config: Config, key: str) -> bool:
    """Whether the user set this key: presets set some, too."""
    section: Any = config
    preset: Any = PRESETS[config.preset]
    for part in split_key(key):
        if part not in section.model_fields_set:
            return False
        section = getattr(section, part)
        preset = preset.get(part) if isinstance(preset, dict) else None
    return section != preset


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``, sections merged key by key."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and key not in ("target", "inputs")
        result[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return result


def _read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError."""
    try:
        content = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        example = EXAMPLES / path.name
        if path.parent.name == EXAMPLES.name and path != example and example.exists():
            return _read_yaml(example)
        raise ConfigError(f"configuration file {str(path)!r} does not exist") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except YamlFault as fault:
        raise ConfigError(f"{path}: {fault}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values, found {type(content).__name__}")
    if "names" in content and {"train", "val", "test"} & content.keys():
        raise ConfigError(
            f"{path}: is the YAML file of a data set (it names classes), not a configuration.",
            hint=f"Train on it: polydetr train --train {path} (train={str(path)!r}).",
        )
    return content


def fault_lines(faults: Sequence[ErrorDetails], root: type[BaseModel], *, place: str = "") -> list[str]:
    """A line per validation error of ``root``: its key, below ``place``, and the nearest valid key or the reason."""
    lines = []
    for number, fault in enumerate(faults):
        key = ".".join([*([place] if place else []), *map(str, fault["loc"])])
        if fault["type"] == "extra_forbidden":
            known = _section_at(fault["loc"][:-1], root).model_fields
            hint = did_you_mean(str(fault["loc"][-1]), known, limit=100) if number < FAULTS_SHOWN else ""
            lines.append(f"unknown key {quoted(key)}. {hint}")
        else:
            message = fault_reason(fault)
            setting = f"{shown(key)} = {quoted(fault['input'])}" if fault["loc"] else key
            lines.append(": ".join([*filter(None, [setting]), f"{message[0].lower()}{message[1:]}"]))
    return lines


def config_error(lines: Sequence[str], *, file: str | None = None) -> ConfigError:
    """All faults as one error; file: the YAML file that has them."""
    head = f"{file}: " if file else ""
    count = f"{len(lines)} fault{'s' if len(lines) > 1 else ''} in the configuration"
    return ConfigError(f"{head}{count}:\n" + "\n".join(f"  - {line}" for line in first_of(lines)))


def _section_at(location: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel]:
    section = root
    for part in location:
        if str(part) in section.model_fields:
            annotation = section.model_fields[str(part)].annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                section = annotation
    return section
