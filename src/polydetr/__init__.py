"""polydetr: one attention model for text, images and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from polydetr.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> object:
    """Loads the public face on first use: ``import polydetr`` alone stays instant."""
    if name == "Predictor":
        from polydetr.predictor import Predictor

        return Predictor
    raise AttributeError(f"module 'polydetr' has no attribute {name!r}")
