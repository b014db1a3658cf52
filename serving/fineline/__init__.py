"""Fineline: a multilingual content-safety classifier that judges the act, not the topic."""

from fineline.classifier import Classifier, Verdict, WindowScore
from fineline.errors import BundleError, ConfigError, DataError, FinelineError, InputError
from fineline.policy import Action
from fineline.stream import StreamEvent, StreamGuard
from fineline.taxonomy import Label, Taxonomy, load_taxonomy

__all__ = [
    "Action",
    "BundleError",
    "Classifier",
    "ConfigError",
    "DataError",
    "FinelineError",
    "InputError",
    "Label",
    "StreamEvent",
    "StreamGuard",
    "Taxonomy",
    "Verdict",
    "WindowScore",
    "load_taxonomy",
]
__version__ = "0.1.0"
