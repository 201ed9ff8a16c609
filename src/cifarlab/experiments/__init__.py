"""Experiments: many runs as one piece of work. Studies, searches, their storage, and what they show."""
