"""Public data: what each source is (registry), where its files are (mirror), how its rows read (readers)."""

from fineline_training.sources.registry import Source, SourceFile, load_registry

__all__ = ["Source", "SourceFile", "load_registry"]
