"""What a user may set for the sections of an evaluation; torch is not imported here, for ``--help`` shows it."""

from __future__ import annotations

from dataclasses import dataclass

from cifarlab.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the sections; paths are files or folders of the user's."""

    costs: str = ""
    """CSV of what each mistake costs, K x K, rows the true class."""
    wanted_accuracy: float = 0.99
    """Accuracy wanted of the answers that are kept, for the threshold of selective prediction."""
    human_labels: str = ""
    """Counts of people's answers, N x K, as .npy or .csv (CIFAR-10H)."""
    cifar10_c: str = ""
    """Folder of the official CIFAR-10-C files; without it the cache is used, or corruptions are regenerated."""
    unknown: str = ""
    """Folder of images of none of the classes."""
    num_corrupted: int = 2000
    """Images of the split under each corruption and severity; 0 for all."""
    num_attacked: int = 500
    """Images of the split under attack; 0 for all."""
    seed: int = 0
    """Seed of everything that is drawn."""

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            UsageError: If a value is out of range.
        """
        if not 0 < self.wanted_accuracy < 1:
            raise UsageError(f"wanted-accuracy must lie between 0 and 1, such as 0.99, not {self.wanted_accuracy}")
        for name in ("num_corrupted", "num_attacked"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name.replace('_', '-')} must not be negative; 0 takes all images")
