"""Judges a bundle through ``fineline.Classifier``: what is evaluated is what is served."""
