"""DETR's parts against transformers' on the same machine, weights and inputs, in turn, in one run; medians of the pairs.

    python benchmarks/detr_speed.py matcher     batch 8, 300 queries x 54 targets, 1 and 6 decoder layers, same assignments
    python benchmarks/detr_speed.py deformable  decoder (300 queries) and encoder (all cells), forward and with gradients
    python benchmarks/detr_speed.py inference [--sizes 800 320]   R50-DETR, fresh weights with random norm statistics, as a checkpoint made
                                                into a model folder, on photographs of coco256. What rounding changes after
                                                training: detection_precision.py
    python benchmarks/detr_speed.py detr-fast --threads 2 [--sizes 416]   one image through the whole model, and through its backbone

Options: --repeats 5, --threads 1. Times are milliseconds of the process's CPU time divided by the threads, so that a busy machine disturbs
them less than it disturbs the wall clock; the wall clock is kept beside them. Appends JSON lines to benchmarks/results/detr_speed.jsonl.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from data import ROOT
from polydetr.config.loading import for_tasks, load_config
from polydetr.data.readers import read_records
from polydetr.engine.encode import RowEncoder
from polydetr.engine.inputs import asked_records
from polydetr.inference.load import load_engine
from polydetr.model.build import build_model
from polydetr.model.checkpoint import IMAGE, OBJECTS, import_detr
from polydetr.nn.batch import Batch
from polydetr.nn.box_geometry import BoxGeometry
from polydetr.nn.deformable import DeformableAttention
from polydetr.nn.matcher import Matcher, SetTargets
from polydetr.schema.infer import infer_schema
from polydetr.values.framing import fit_image
from polydetr.values.images import open_image
from recording import keep

PHOTOGRAPHS = 6


def in_turn(candidates: dict[str, Callable[[], Any]], repeats: int) -> dict[str, dict[str, float]]:
    """name → median CPU and wall milliseconds; one unmeasured round first."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for attempt in range(repeats + 1):
        for name, run in candidates.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if attempt:
                seen[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    threads = torch.get_num_threads()
    return {
        name: {
            "cpu_ms": round(1000 * statistics.median(t[0] for t in times) / threads, 2),
            "wall_ms": round(1000 * statistics.median(t[1] for t in times), 2),
        }
        for name, times in seen.items()
    }


def matcher(repeats: int) -> Iterator[dict[str, Any]]:
    from transformers.loss.loss_for_object_detection import HungarianMatcher

    batch, queries, count, classes = 8, 300, 54, 80
    torch.manual_seed(0)
    labels, boxes = torch.randint(classes, (batch, count)), torch.rand(batch, count, 4) * 0.5 + 0.01
    targets = SetTargets(labels, torch.ones(batch, count, dtype=torch.bool), {"boxes_cxcywh": boxes})
    hub_targets = [{"class_labels": label, "boxes": box} for label, box in zip(labels, boxes, strict=True)]
    for layers in (1, 6):
        outputs = {"logits": torch.randn(layers, batch, queries, classes + 1),
                   "boxes_cxcywh": torch.rand(layers, batch, queries, 4) * 0.5 + 0.01}  # fmt: skip
        geometry, ours, theirs = BoxGeometry(), Matcher(), HungarianMatcher(1, 5, 2)

        def run_ours(outputs=outputs, geometry=geometry, ours=ours):
            return ours(outputs["logits"], targets, geometry.cost(outputs, targets.geometry))

        def run_theirs(outputs=outputs, theirs=theirs):
            return [
                theirs({"logits": logits, "pred_boxes": boxes}, hub_targets)
                for logits, boxes in zip(outputs["logits"], outputs["boxes_cxcywh"], strict=True)
            ]

        mine = run_ours()  # sorted by layer, example and query, as theirs are
        expected = torch.stack([torch.stack(pairs) for examples in run_theirs() for pairs in examples], dim=1).flatten(
            1
        )
        same = torch.equal(torch.stack((mine.query, mine.target)), expected)
        times = in_turn({"polydetr": run_ours, "transformers": run_theirs}, repeats)
        yield {"part": "matcher", "batch": batch, "queries": queries, "targets": count, "layers": layers,
               "identical_assignments": same, **times, "times_faster": ratio(times)}  # fmt: skip


def deformable(repeats: int) -> Iterator[dict[str, Any]]:
    from transformers import DeformableDetrConfig
    from transformers.models.deformable_detr.modeling_deformable_detr import (
        DeformableDetrMultiscaleDeformableAttention,
    )

    shapes, batch = [(52, 52), (26, 26), (13, 13), (7, 7)], 2
    cells = sum(h * w for h, w in shapes)
    config = DeformableDetrConfig(use_timm_backbone=False, backbone=None, backbone_config={"model_type": "resnet"},
                                  disable_custom_kernels=True)  # fmt: skip
    torch.manual_seed(0)
    theirs = DeformableDetrMultiscaleDeformableAttention(config, num_heads=8, n_points=4)
    ours = DeformableAttention(256, 8, num_levels=4, num_points=4)
    names = {
        "offsets": "sampling_offsets",
        "weights": "attention_weights",
        "value": "value_proj",
        "output": "output_proj",
    }
    for mine, other in names.items():
        torch.nn.init.normal_(theirs.get_submodule(other).weight, std=0.05)
        ours.get_submodule(mine).load_state_dict(theirs.get_submodule(other).state_dict())
    for kind, asked in (("decoder", 300), ("encoder", cells)):
        queries, memory = torch.randn(batch, asked, 256), torch.randn(batch, cells, 256)
        references = torch.rand(batch, asked, 1, 4).expand(-1, -1, 4, -1)

        def run_ours(queries=queries, memory=memory, references=references) -> Tensor:
            return ours(queries, references, memory, shapes)

        def run_theirs(queries=queries, memory=memory, references=references) -> Tensor:
            return theirs(queries, encoder_hidden_states=memory, reference_points=references,
                          spatial_shapes=torch.tensor(shapes), spatial_shapes_list=shapes)[0]  # fmt: skip

        with torch.no_grad():
            difference = float((run_ours() - run_theirs()).abs().max())
            times = in_turn({"polydetr": run_ours, "transformers": run_theirs}, repeats)
        yield {"part": "deformable", "kind": kind, "queries": asked, "cells": cells, "batch": batch, "gradients": False,
               "largest_difference": difference, **times, "times_faster": ratio(times)}  # fmt: skip
        queries.requires_grad_()
        memory.requires_grad_()
        times = in_turn(
            {
                "polydetr": lambda run=run_ours: run().sum().backward(),
                "transformers": lambda run=run_theirs: run().sum().backward(),
            },
            repeats,
        )
        yield {"part": "deformable", "kind": kind, "queries": asked, "cells": cells, "batch": batch, "gradients": True,
               **times, "times_faster": ratio(times)}  # fmt: skip


def inference(repeats: int, sizes: list[int]) -> Iterator[dict[str, Any]]:
    from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

    config = DetrConfig(use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
                        backbone_config=ResNetConfig(out_features=["stage4"]))  # fmt: skip
    torch.manual_seed(0)
    theirs = DetrForObjectDetection(config).eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.copy_(0.7 + 0.6 * torch.rand(tensor.shape))
    pace = products_per_second(torch.bfloat16)
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            theirs.save_pretrained(Path(folder) / "checkpoint")
            import_detr(Path(folder) / "checkpoint", Path(folder) / "model", size=size, fit="stretch", threshold=0.5)
            engines = {kind: load_engine(Path(folder) / "model", precision=kind)[0] for kind in ("bf16", "fp32")}
        encoder, models = engines["fp32"].encoder, {f"polydetr_{kind}": e.runner.model for kind, e in engines.items()}
        batches, pictures = zip(*photographs(size, encoder), strict=True)
        with torch.inference_mode():
            changes: dict[str, dict[str, float]] = {name: {"logits": 0.0, "boxes": 0.0} for name in models}
            for batch, pixels in zip(batches, pictures, strict=True):
                expected = theirs(pixels)
                for name, model in models.items():
                    found, largest = model(batch)[OBJECTS], changes[name]
                    for key, ours, other in (
                        ("logits", found["logits"], expected.logits),
                        ("boxes", found["boxes_cxcywh"], expected.pred_boxes),
                    ):
                        largest[key] = max(largest[key], float((ours[:, -1].float() - other).abs().max()))
            embedder = models["polydetr_bf16"].embedders["image"]
            theirs_bf16, rounded = copy.deepcopy(theirs).bfloat16(), pixels.bfloat16()
            times = in_turn(
                {
                    "transformers_fp32": lambda pixels=pixels: theirs(pixels),
                    "transformers_bf16": lambda model=theirs_bf16, pixels=rounded: model(pixels),
                    **{name: lambda model=model, batch=batch: model(batch) for name, model in models.items()},
                    "backbone_bf16": lambda batch=batch, embedder=embedder: embedder(batch.groups["image"]),
                },
                repeats,
            )
            with FlopCounterMode(display=False) as counted:
                theirs(pixels)
        work = counted.get_total_flops()
        yield {"part": "inference", "model": "detr-resnet-50", "size": size, **times, "largest_change_fresh_weights": changes,
               "gflop": round(work / 1e9, 1), "machine_gflop_per_s_bf16": round(pace / 1e9), "limit_ms": round(1000 * work / pace, 1),
               **{f"times_faster_{kind}": ratio(times, ours=f"polydetr_{kind}", theirs=f"transformers_{kind}")
                  for kind in ("bf16", "fp32")}}  # fmt: skip


def products_per_second(dtype: torch.dtype, *, side: int = 2048) -> float:
    """Floating-point operations per second of this process's CPU time in large matrix products: the machine's limit."""
    a, b = (torch.randn(side, side).to(dtype) for _ in range(2))
    times = in_turn({"product": lambda: a @ b}, 9)["product"]
    return 2 * side**3 / (times["cpu_ms"] / 1000)


def photographs(size: int, encoder: RowEncoder) -> Iterator[tuple[Batch, Tensor]]:
    """The first photographs of coco256: as a batch of ours, and normalized for ImageNet's backbones, (1, 3, size, size)."""
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for path in sorted((ROOT / "coco256" / "images").rglob("*.jpg"))[:PHOTOGRAPHS]:
        pixels = torch.tensor(fit_image(open_image(str(path)), size, fit="stretch")).permute(2, 0, 1) / 255
        record = next(iter(asked_records([{IMAGE: str(path)}], [IMAGE])))
        yield Batch.collate(encoder.encode([record], with_targets=False).examples), ((pixels - mean) / std)[None]


def detr_fast(repeats: int, sizes: list[int]) -> Iterator[dict[str, Any]]:
    """One image of BCCD through the model as it is by default, on its pretrained backbone; the heads are fresh."""
    records = list(read_records(str(ROOT / "bccd" / "BCCD" / "ImageSets" / "Main" / "val.txt")))[:2]
    for size in sizes:
        config = load_config({"image": {"size": size}}, target={"objects": "detection"}, inputs={"image": "image"})
        config = for_tasks(config, ["detection"])
        schema = infer_schema([r.row for r in records], targets=config.target, inputs=config.inputs)
        engine = build_model(config, schema, records, notify=lambda message: None).engine
        batch = Batch.collate(engine.encoder.encode(records[:1], with_targets=False).examples)
        for dtype in (torch.float32, torch.bfloat16):  # the faster one last
            model = engine.runner.model.to(dtype).eval()
            with torch.inference_mode():
                times = in_turn(
                    {
                        "model": lambda model=model, batch=batch: model(batch),
                        "backbone": lambda model=model, batch=batch: model.embedders["image"](batch.groups["image"]),
                    },
                    repeats,
                )
            yield {"part": "detr-fast", "size": size, "precision": str(dtype).removeprefix("torch."), **times,
                   "model_ms": times["model"]["wall_ms"],
                   "backbone_share": round(times["backbone"]["cpu_ms"] / times["model"]["cpu_ms"], 2)}  # fmt: skip


def ratio(times: dict[str, dict[str, float]], *, ours: str = "polydetr", theirs: str = "transformers") -> float:
    return round(times[theirs]["cpu_ms"] / times[ours]["cpu_ms"], 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["matcher", "deformable", "inference", "detr-fast"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", type=int, nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sizes, repeats = options.sizes, options.repeats
    lines = {
        "matcher": lambda: matcher(repeats),
        "deformable": lambda: deformable(repeats),
        "inference": lambda: inference(repeats, sizes or [800, 320]),
        "detr-fast": lambda: detr_fast(repeats, sizes or [416]),
    }[options.part]()
    for line in lines:
        told = keep("detr_speed", {**line, "threads": options.threads, "repeats": options.repeats})
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
