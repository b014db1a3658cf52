"""Subcommands that training adds to `fineline`."""
