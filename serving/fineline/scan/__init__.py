"""Scanning a corpus: every score is stored once, decisions are made on the stored scores."""
