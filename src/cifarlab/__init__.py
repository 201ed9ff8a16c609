"""cifarlab trains, proves and ships a small-image classifier in-house."""

__version__ = "0.1.0"
