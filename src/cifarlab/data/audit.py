"""Audit: exact and near duplicates within and across sets of images.

*Exact duplicates* have equal pixels. *Near duplicates* are two versions of one picture: the same shot, but cropped,
shifted, scaled, compressed again, or with other brightness, contrast or colour. They are found in two steps.

1. Candidates. Every image becomes 48 numbers: its 8 x 8 colour thumbnail, freed of brightness and contrast, projected
   on the leading principal components of all thumbnails, each scaled to unit variance (whitening), so that a bright
   sky above dark ground, which thousands of pictures share, counts no more than anything else. Pairs whose cosine
   exceeds 0.68 go on; in small sets, all pairs do.
2. Verification. The two pictures, in grey at 32 x 32 pixels, are registered by an affine map (inverse compositional
   Gauss-Newton, first at 16 x 16). Their similarity is the correlation of *details* (what a blur of 2.5 pixels takes
   away) where they overlap. Correlating whole pictures would call any two silhouettes before a white ground alike.

What it misses: mirrored and strongly rotated copies, crops that keep less than about three quarters of the picture,
pictures without detail, and, in large images, whatever does not show at 32 x 32 pixels. What it finds too much: small
plain objects before a plain ground (a bird in the sky) can be registered to one another, and so can two pictures in the
same broad frame.

Measured on CIFAR-10 (20 Nov 2026): 452 of the 10,000 test images (4.5 %) have a near duplicate among the 50,000
training images. Of the 249 that the reference's list (github.com/cvjena/cifair, meta/duplicates_cifar10.csv) calls
near-duplicates, 215 are found (86 %), and 14 of its 37 "very similar" ones; 223 are not on that list. Of 84 drawn from
these and looked at, about one in ten was doubtful, the others plainly the same shot.

Shape suffixes: N images, B of them in a block, P pairs, S side, D descriptor.

References:
    Barz and Denzler (2020), "Do we train on test data? Purging CIFAR of near-duplicates", J. Imaging 6(6), 41,
    arXiv:1902.00423: 3.3 % of CIFAR-10's and 10 % of CIFAR-100's test images have duplicates in the training set,
    found by distances in a network's features and judged by eye.
    Baker and Matthews (2004), "Lucas-Kanade 20 years on", IJCV 56(3), 221: the registration.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from cifarlab.data.imageset import ImageSet

NEAR_THRESHOLD = 0.9
"""Least correlation of details at which two pictures count as near duplicates."""

_SIDE = 32
_CANDIDATE_COSINE = 0.68
_CANDIDATE_LIMIT = 200_000  # bounds memory and time on sets such as the frames of a fixed camera
_ALL_PAIRS = 600  # below so many images whitening has too few to learn from, and all pairs are few enough
_DESCRIPTOR_DIM = 48
_BLOCK = 1024  # a block of cosines is 4 MiB and stays in the cache while it is compared
_PAIR_BLOCK = 256
_COARSE_STEPS, _FINE_STEPS = 6, 3
_COARSE_SIMILARITY = 0.55  # true pairs lie above 0.8 at 16 x 16 already; less is not worth the fine step


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of images that are versions of one picture, most similar first.

    Attributes:
        pairs_P2: Positions, int64, P x 2; the first is the smaller.
        similarity_P: Correlation of details after registration, float32, in threshold..1.
        complete: False if there were too many candidates to look at all of them.
    """

    pairs_P2: torch.Tensor
    similarity_P: torch.Tensor
    complete: bool


@dataclass(frozen=True)
class Overlap:
    """Duplicates within a set, or of one set's images in another.

    Attributes:
        first: Set in which the copies are looked for; ``train+val`` means both.
        second: Set whose images are counted.
        images: Size of ``second``.
        exact_images: Images of ``second`` with an equal picture in ``first``.
        near_images: Images of ``second`` with an equal or nearly equal picture in ``first``.
        near_pairs: Pairs of nearly equal pictures.
        disagreeing_pairs: Those of them whose labels differ.
    """

    first: str
    second: str
    images: int
    exact_images: int
    near_images: int
    near_pairs: int
    disagreeing_pairs: int


def exact_duplicates(images_NCHW: torch.Tensor) -> list[list[int]]:
    """Group images with equal pixels.

    Args:
        images_NCHW: uint8, N x 3 x H x W.

    Returns:
        Positions: a list for every group of two or more, ascending within and between groups.
    """
    groups: dict[bytes, list[int]] = {}
    for position, pixels in enumerate(images_NCHW.contiguous().numpy()):
        groups.setdefault(hashlib.blake2b(pixels.data, digest_size=16).digest(), []).append(position)
    return [group for group in groups.values() if len(group) > 1]


def near_duplicates(
    images_NCHW: torch.Tensor,
    *,
    across: int = 0,
    threshold: float = NEAR_THRESHOLD,
    progress: Callable[[float], None] | None = None,
) -> NearDuplicates:
    """Find the pairs of images that are nearly the same picture; exact copies of pictures with detail are among them.

    Args:
        images_NCHW: uint8, N x 3 x H x W.
        across: If above 0, only pairs of one of the first so many images and one of the others are looked for.
        threshold: Least similarity, in (0, 1).
        progress: Called with the share done, 0..1.

    Returns:
        The pairs, most similar first.
    """
    report = progress or (lambda share: None)
    with _workers() as pool:
        candidates_P2, complete = _candidates(images_NCHW, across, pool, lambda share: report(share / 2))

        def compare(start: int) -> torch.Tensor:
            first, second = candidates_P2[start : start + _PAIR_BLOCK].unbind(1)
            return registered_similarity(images_NCHW[first], images_NCHW[second])

        similarities = [torch.empty(0)]
        for similarity in pool.map(compare, range(0, len(candidates_P2), _PAIR_BLOCK)):
            similarities.append(similarity)
            report(0.5 + 0.5 * min(1.0, (len(similarities) - 1) * _PAIR_BLOCK / len(candidates_P2)))
    similarity_P = torch.cat(similarities)
    order = similarity_P.argsort(descending=True, stable=True)
    order = order[similarity_P[order] >= threshold]
    return NearDuplicates(candidates_P2[order], similarity_P[order], complete)


def count_overlaps(sets: dict[str, ImageSet], exact: list[list[int]], near: NearDuplicates) -> list[Overlap]:
    """Count duplicates within every set and between every two.

    Args:
        sets: Sets by name, the one that is trained on first.
        exact: Groups of equal images, as positions in the sets laid end to end in this order.
        near: Nearly equal images, likewise.

    Returns:
        A set with itself, then each earlier set with it; ``train+val`` with test where there are all three.
    """
    names = list(sets)
    wanted: list[tuple[tuple[str, ...], str]] = [
        ((first,), second) for n, second in enumerate(names) for first in (second, *names[:n])
    ]
    if names == ["train", "val", "test"]:
        wanted.append((("train", "val"), "test"))
    set_N = torch.cat([torch.full((len(images),), n) for n, images in enumerate(sets.values())])
    labels_N = torch.cat([images.labels_N for images in sets.values()])
    first_P, second_P = near.pairs_P2.unbind(1)
    differ_P = labels_N[first_P] != labels_N[second_P]
    overlaps = []
    for firsts, second in wanted:
        into, sources = names.index(second), torch.tensor([names.index(name) for name in firsts])
        # sets are laid end to end in order, so the first of a pair is never in the later set
        among_P = torch.isin(set_N[first_P], sources) & (set_N[second_P] == into)
        equal = _equal_members(exact, set_N.tolist(), set(sources.tolist()), into)
        alike = set(second_P[among_P].tolist()) | equal
        if firsts == (second,):
            alike |= set(first_P[among_P].tolist())
        overlaps.append(
            Overlap(
                first="+".join(firsts),
                second=second,
                images=len(sets[second]),
                exact_images=len(equal),
                near_images=len(alike),
                near_pairs=int(among_P.sum()),
                disagreeing_pairs=int((among_P & differ_P).sum()),
            )
        )
    return overlaps


def _equal_members(groups: list[list[int]], set_of: list[int], sources: set[int], into: int) -> set[int]:
    """Return members of set ``into`` whose group has another member in the sets ``sources``."""
    found: set[int] = set()
    for group in groups:
        members = [position for position in group if set_of[position] == into]
        others = sum(set_of[position] in sources for position in group) - (into in sources)
        if members and others > 0:
            found.update(members)
    return found


def registered_similarity(first_PCHW: torch.Tensor, second_PCHW: torch.Tensor) -> torch.Tensor:
    """Correlate the details of pairs of pictures after registering the second to the first.

    Args:
        first_PCHW: uint8, P x 3 x H x W.
        second_PCHW: The same shape; each is compared with the image at the same position.

    Returns:
        float32, P, in -1..1; pairs that do not agree at 16 x 16 pixels get that coarse figure.
    """
    first, second = _grey(first_PCHW), _grey(second_PCHW)
    affine = torch.eye(2, 3).expand(len(first), 2, 3)
    coarse_first, coarse_second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    affine = _register(_blur(coarse_first, 0.7), _blur(coarse_second, 0.7), affine, _COARSE_STEPS)
    similarity = _detail_correlation(coarse_first, coarse_second, affine, 0.5, 1.5)
    keep = (similarity > _COARSE_SIMILARITY).nonzero().flatten()
    if len(keep):
        first, second, affine = first[keep], second[keep], affine[keep]
        affine = _register(_blur(first, 0.7), _blur(second, 0.7), affine, _FINE_STEPS)
        similarity[keep] = _detail_correlation(first, second, affine, 0.6, 2.5)
    return similarity


@contextlib.contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """Give a pool of as many threads as torch uses, each working alone.

    The work is thousands of small operations. Shared by torch's own threads, each would end in a wait for the slowest,
    which on a busy machine takes many times as long as the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def _candidates(
    images_NCHW: torch.Tensor, across: int, pool: ThreadPoolExecutor, report: Callable[[float], None]
) -> tuple[torch.Tensor, bool]:
    """Return pairs worth verifying (int64, P x 2, first < second), and whether none had to be left out."""
    count = len(images_NCHW)
    if count <= _ALL_PAIRS:
        if across:
            return torch.cartesian_prod(torch.arange(across), torch.arange(across, count)), True
        return torch.combinations(torch.arange(count)), True
    descriptors_ND = _descriptors(images_NCHW)
    firsts_ND = descriptors_ND[: across or count]
    pairs, cosines, complete = torch.empty(0, 2, dtype=torch.int64), torch.empty(0), True
    rows = range(0, len(firsts_ND), _BLOCK)
    found_by_row = pool.map(lambda row: _similar(firsts_ND[row : row + _BLOCK], descriptors_ND, row, across), rows)
    for row, found in zip(rows, found_by_row, strict=True):
        pairs, cosines, all_kept = _best(torch.cat([pairs, found[0]]), torch.cat([cosines, found[1]]))
        complete = complete and found[2] and all_kept
        left = max(0, len(firsts_ND) - row - _BLOCK) / len(firsts_ND)
        report(1 - (left if across else left**2))
    # ascending order, whatever the blocks: equal data gives equal results
    return pairs[(pairs[:, 0] * count + pairs[:, 1]).argsort()], complete


def _similar(
    block_BD: torch.Tensor, descriptors_ND: torch.Tensor, row: int, across: int
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Return similar pairs whose first is in the block that begins at a row, their cosines, and whether these are all.

    The second of a pair comes after the first, and is not below ``across``.
    """
    pairs, cosines, complete = torch.empty(0, 2, dtype=torch.int64), torch.empty(0), True
    for column in range(max(row, across), len(descriptors_ND), _BLOCK):
        cosines_BB = block_BD @ descriptors_ND[column : column + _BLOCK].T
        hits = (cosines_BB > _CANDIDATE_COSINE).nonzero()
        if row == column:
            hits = hits[hits[:, 0] < hits[:, 1]]
        found, values = hits + torch.tensor([row, column]), cosines_BB[hits[:, 0], hits[:, 1]]
        pairs, cosines, all_kept = _best(torch.cat([pairs, found]), torch.cat([cosines, values]))
        complete = complete and all_kept
    return pairs, cosines, complete


def _best(pairs_P2: torch.Tensor, cosines_P: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Keep the most similar pairs, as many as the limit allows."""
    if len(pairs_P2) <= _CANDIDATE_LIMIT:
        return pairs_P2, cosines_P, True
    cosines_P, best = cosines_P.topk(_CANDIDATE_LIMIT)
    return pairs_P2[best], cosines_P, False


def _descriptors(images_NCHW: torch.Tensor) -> torch.Tensor:
    """Return whitened thumbnails of unit length: float32, N x D; zero for an image without contrast."""
    thumbnails = torch.cat(
        [F.adaptive_avg_pool2d(chunk.float(), 8).flatten(1) for chunk in torch.split(images_NCHW, 512)]
    )
    thumbnails = thumbnails - thumbnails.mean(1, keepdim=True)
    flat = thumbnails.norm(dim=1) < 1e-3
    thumbnails = F.normalize(thumbnails, dim=1)
    thumbnails -= thumbnails.mean(0)
    variance, components = torch.linalg.eigh(thumbnails.T @ thumbnails / len(thumbnails))
    variance, components = variance[-_DESCRIPTOR_DIM:], components[:, -_DESCRIPTOR_DIM:]
    # in grey or flat data the last components are noise of the arithmetic; the floor keeps them from counting
    whitened = thumbnails @ (components * variance.clamp_min(1e-4 * float(variance[-1]) + 1e-12).rsqrt())
    whitened[flat] = 0
    return F.normalize(whitened, dim=1)


def _grey(images_NCHW: torch.Tensor) -> torch.Tensor:
    """Return float32, N x 1 x 32 x 32, range 0..255."""
    grey = images_NCHW.float().mean(1, keepdim=True)
    if grey.shape[-2:] == (_SIDE, _SIDE):
        return grey
    return F.interpolate(grey, (_SIDE, _SIDE), mode="bilinear", antialias=True, align_corners=False)


def _blur(images_N1SS: torch.Tensor, sigma: float) -> torch.Tensor:
    radius = max(1, round(2.5 * sigma))
    kernel = torch.exp(-(torch.arange(-radius, radius + 1).float() ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    padded = F.pad(images_N1SS, (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))


def _standardize(values_NX: torch.Tensor, weights_NX: torch.Tensor) -> torch.Tensor:
    """Bring values to zero mean and unit variance where the weights (0 or 1) are 1; constant values become zero."""
    total = weights_NX.sum(1, keepdim=True).clamp_min(1)
    values = values_NX - (values_NX * weights_NX).sum(1, keepdim=True) / total
    variance = (values.square() * weights_NX).sum(1, keepdim=True) / total
    # a hundredth of a grey level squared is arithmetic, not detail
    return values * (variance > 1e-2) * variance.clamp_min(1e-2).rsqrt()


def _warp(images_N1SS: torch.Tensor, affine_N23: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return warped pixels and a mask of those that come from inside the image, both float32, N x S*S."""
    grid = F.affine_grid(affine_N23, list(images_N1SS.shape), align_corners=False)
    warped = F.grid_sample(images_N1SS, grid, padding_mode="border", align_corners=False)
    return warped.flatten(1), (grid.abs().amax(-1) <= 1).float().flatten(1)


def _register(
    target_N1SS: torch.Tensor, moving_N1SS: torch.Tensor, affine_N23: torch.Tensor, steps: int
) -> torch.Tensor:
    """Refine affine maps (in affine_grid's coordinates) that lay ``moving`` on ``target``, up to gain and offset."""
    count, side = len(target_N1SS), target_N1SS.shape[-1]
    everywhere = torch.ones(count, side * side)
    target = _standardize(target_N1SS.flatten(1), everywhere)
    padded = F.pad(target.view_as(target_N1SS), (1, 1, 1, 1), mode="replicate")[:, 0]
    # an image is 2 wide in affine_grid's coordinates: central differences times side / 4
    slope_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]).flatten(1) * (side / 4)
    slope_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]).flatten(1) * (side / 4)
    centres = (torch.arange(side) + 0.5) * 2 / side - 1
    y, x = (axis.flatten() for axis in torch.meshgrid(centres, centres, indexing="ij"))
    jacobian = torch.stack([slope_x * x, slope_x * y, slope_x, slope_y * x, slope_y * y, slope_y], 1)
    hessian = jacobian @ jacobian.transpose(1, 2)
    damping = 1e-3 * hessian.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
    solver = torch.linalg.inv(hessian + damping[:, None, None] * torch.eye(6))
    bottom = torch.tensor([[[0.0, 0.0, 1.0]]]).expand(count, 1, 3)
    for _ in range(steps):
        warped, inside = _warp(moving_N1SS, affine_N23)
        residual = (_standardize(warped, inside) - _standardize(target, inside)) * inside
        step = (solver @ (jacobian @ residual[..., None])).view(count, 2, 3).clamp(-0.2, 0.2)
        step = torch.eye(3) + torch.cat([step, torch.zeros(count, 1, 3)], 1)
        affine = (torch.cat([affine_N23, bottom], 1) @ torch.linalg.inv(step))[:, :2]
        # beyond these bounds two pictures share too little to be called one
        affine_N23 = torch.cat([affine[..., :2].clamp(-1.5, 1.5), affine[..., 2:].clamp(-0.6, 0.6)], 2)
    return affine_N23


def _detail_correlation(
    first_N1SS: torch.Tensor, second_N1SS: torch.Tensor, affine_N23: torch.Tensor, fine: float, coarse: float
) -> torch.Tensor:
    """Correlate the bands between two blurs (sigmas in pixels) where the warped second overlaps the first."""
    first = (_blur(first_N1SS, fine) - _blur(first_N1SS, coarse)).flatten(1)
    second, inside = _warp(_blur(second_N1SS, fine) - _blur(second_N1SS, coarse), affine_N23)
    products = _standardize(first, inside) * _standardize(second, inside) * inside
    correlation = products.sum(1) / inside.sum(1).clamp_min(1)
    return torch.where(inside.mean(1) > 0.5, correlation, 0.0)
