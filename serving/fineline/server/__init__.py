"""The HTTP endpoint; needs the extra ``serve``."""
