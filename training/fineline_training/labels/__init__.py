"""A team's own labels: its files, annotators, data gates, and what is worth labelling next."""
