"""Why a model answers as it does: its surest mistakes, the classes it confuses, where its evidence lies, its features.

None of this proves a reason. It shows what to look at, and where labels, cropping or missing training images may be at
fault.

Shape suffixes: N images, M selected images, K classes, F features, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from cifarlab import metrics
from cifarlab.data.imageset import ImageSet
from cifarlab.errors import MissingExtraError
from cifarlab.evaluation.attention import features, grad_cam, half_area, last_maps
from cifarlab.evaluation.intervals import mean_figure, proportion, share_alone, share_text
from cifarlab.evaluation.probing import NO_MODEL, model_and_images, stratified
from cifarlab.evaluation.section import Scored, Section, Subject, Table
from cifarlab.inference import Classifier
from cifarlab.phrases import count, per_cent
from cifarlab.plots import evaluation as evaluation_plots
from cifarlab.plots import why as plots
from cifarlab.seeding import derive_seed

_SURE = 0.9
_MISTAKES = 36
_PAIRS, _EXAMPLES = 6, 8
_PICTURES = 8  # of each kind under Grad-CAM
_MEASURED = 500  # of each kind, for the figures of Grad-CAM
_EMBEDDED = 2000
_NEIGHBOURS = 10
_FEWEST = 20  # images, below which a picture of neighbours says nothing


@dataclass(frozen=True)
class _Answers:
    """Answers taken apart: probabilities, what was said how surely, and what was right."""

    probabilities_NK: torch.Tensor
    confidence_N: torch.Tensor
    predicted_N: torch.Tensor
    labels_N: torch.Tensor
    images: ImageSet

    def right(self) -> torch.Tensor:
        """Return which answers (bool, N) are right."""
        return self.predicted_N == self.labels_N


def why_section(subject: Subject) -> Section:
    """Show why a model may answer as it does.

    Args:
        subject: A model, with the split's images; answers from a file alone give no reasons.
    """
    found = model_and_images(subject)
    if found is None:
        return Section(skipped=NO_MODEL)
    classifier, images = found
    answers = _taken_apart(subject.judged, images)
    parts = [
        _pairs(answers, subject.split),
        _mistakes(answers, subject.split),
        _features(answers, classifier, subject),
        _evidence(answers, classifier, subject),
    ]
    return Section(
        findings=tuple(line for part in parts for line in part.findings),
        figures={key: value for part in parts for key, value in part.figures.items()},
        tables={key: value for part in parts for key, value in part.tables.items()},
        plots={key: value for part in parts for key, value in part.plots.items()},
        notes=tuple(line for part in parts for line in part.notes),
        captions={key: value for part in parts for key, value in part.captions.items()},
    )


def _taken_apart(judged: Scored, images: ImageSet) -> _Answers:
    probabilities_NK = judged.logits_NK.double().softmax(1)
    confidence_N, predicted_N = probabilities_NK.max(1)
    return _Answers(probabilities_NK, confidence_N, predicted_N, judged.labels_N, images)


def _mistakes(answers: _Answers, split: str) -> Section:
    """Show the wrong answers given with the highest confidence, and count the sure ones."""
    mistakes = metrics.confident_mistakes(answers.probabilities_NK, answers.labels_N, _MISTAKES)
    names, images = answers.images.class_names, answers.images
    wrong = images.images_NCHW[torch.tensor([one.index for one in mistakes], dtype=torch.int64)]
    sure = proportion(int((~answers.right() & (answers.confidence_N >= _SURE)).sum()), len(answers.labels_N))
    rows = [
        (one.index, *images.names[one.index : one.index + 1], names[one.label], names[one.predicted], one.confidence)
        for one in mistakes
    ]
    files = ("file",) if images.names else ()
    header = ("image", *files, "true class", "answer", "confidence")
    kinds = ("text", *(["text"] * len(files)), "text", "text", "fraction")
    title = f"Most confident mistakes ({split} split, {len(answers.labels_N):,} images)"
    return Section(
        findings=(f"It is wrong and yet at least 90 % sure on {share_text(sure)} of the images.",),
        figures={"sure_mistakes": sure, "sure_from": _SURE},
        tables={"mistakes": Table("Its most confident mistakes", header, rows, kinds)},
        plots={"mistakes": evaluation_plots.mistakes_figure(wrong, mistakes, names, title)},
        captions={
            "mistakes": "Wrong answers given with the highest confidence. Some may be wrong labels: look before the "
            "model is blamed."
        },
    )


def _pairs(answers: _Answers, split: str) -> Section:
    """Show the classes that are confused most often, with examples, the surest first."""
    confusion_KK = torch.zeros((answers.images.num_classes,) * 2, dtype=torch.int64)
    confusion_KK.index_put_((answers.labels_N, answers.predicted_N), torch.tensor(1), accumulate=True)
    pairs = metrics.frequent_confusions(confusion_KK, _PAIRS)
    if not pairs:
        return Section(notes=("No class was taken for another, so there are no pairs to show.",))
    names = answers.images.class_names
    examples = [_examples(answers, pair.label, pair.predicted) for pair in pairs]
    shares = [proportion(pair.count, int(confusion_KK[pair.label].sum())) for pair in pairs]
    titles = [f"{names[pair.label]} taken for {names[pair.predicted]}: {count(pair.count, 'image')}" for pair in pairs]
    figure = plots.pairs_figure(
        [answers.images.images_NCHW[places] for places in examples],
        titles,
        [answers.confidence_N[places].tolist() for places in examples],
        f"Classes confused most often ({split} split)",
    )
    rows = [
        (names[pair.label], names[pair.predicted], pair.count, share["value"], share["interval"])
        for pair, share in zip(pairs, shares, strict=True)
    ]
    first = pairs[0]
    back = int(confusion_KK[first.predicted, first.label])
    num_wrong = int((~answers.right()).sum())
    sentence = (
        f"Most often confused: {names[first.label]} and {names[first.predicted]}, {first.count:,} one way, {back:,} "
        f"the other, {share_alone((first.count + back) / num_wrong, 0)} of its {count(num_wrong, 'mistake')}."
    )
    header = ("true class", "taken for", "images", "share of the class", "95 % interval")
    kinds = ("text", "text", "count", "fraction", "interval")
    return Section(
        findings=(sentence,),
        figures={
            "confused_pairs": [
                {"label": names[pair.label], "predicted": names[pair.predicted], **share}
                for pair, share in zip(pairs, shares, strict=True)
            ]
        },
        tables={"confused_pairs": Table("Classes confused most often", header, rows, kinds)},
        plots={"confused_pairs": figure},
        captions={
            "confused_pairs": "Examples of each pair, those of which the model was surest first; below each, how sure."
        },
    )


def _examples(answers: _Answers, label: int, predicted: int) -> torch.Tensor:
    places_M = ((answers.labels_N == label) & (answers.predicted_N == predicted)).nonzero().flatten()
    order_M = answers.confidence_N[places_M].argsort(descending=True, stable=True)
    return places_M[order_M][:_EXAMPLES]


# Features


def _features(answers: _Answers, classifier: Classifier, subject: Subject) -> Section:
    """Lay images out in the plane by the network's features, and ask whose neighbours are of their class."""
    places_M = stratified(answers.labels_N, _EMBEDDED, subject.options.seed, "why/features")
    if len(places_M) < _FEWEST:
        few = f"{count(len(places_M), 'image')} {'is' if len(places_M) == 1 else 'are'} too few"
        return Section(notes=(f"Features are left out: {few} for neighbours.",))
    features_MF = features(classifier, answers.images.images_NCHW[places_M]).double().numpy()
    labels_M, right_M = answers.labels_N[places_M].numpy(), answers.right()[places_M].numpy()
    if not np.isfinite(features_MF).all():
        return Section(notes=("Features are left out: some are not finite, so the weights are damaged.",))
    places_M2, explained = _embed(features_MF, subject.options.seed)
    alike_M = _neighbours_agree(features_MF, labels_M)
    alike = proportion(int(alike_M.sum()), len(alike_M))
    title = f"Images by the network's features (t-SNE, {len(labels_M):,} of the {subject.split} split)"
    num_features = features_MF.shape[1]
    return Section(
        findings=(
            f"By the network's own features, most of the {_NEIGHBOURS} nearest neighbours are of an image's own class "
            f"for {share_text(alike)} of the images.",
        ),
        figures={
            "neighbours_agree": {**alike, "neighbours": _NEIGHBOURS},
            "features": num_features,
            "variance_in_two_components": explained,
        },
        plots={"features": plots.embedding_figure(places_M2, labels_M, right_M, answers.images.class_names, title)},
        captions={
            "features": f"The {num_features} features before the last layer, laid out in the plane by t-SNE "
            "(after PCA); rings mark wrong answers. Who is near whom means something; distances between groups, their "
            "size and their place mean little."
        },
        notes=(
            f"Features are those of {len(labels_M):,} images, each class in proportion. The two strongest principal "
            f"components alone hold {per_cent(explained, 0)} of their variance, so every picture in the plane leaves "
            "much out.",
        ),
    )


def _embed(features_MF: np.ndarray[Any, Any], seed: int) -> tuple[np.ndarray[Any, Any], float]:
    """Return places in the plane by t-SNE (M x 2), and the share of variance two principal components would hold.

    References:
        L. van der Maaten and G. Hinton, "Visualizing data using t-SNE", JMLR 9 (2008); initialised by PCA, as in
        D. Kobak and P. Berens, "The art of using t-SNE for single-cell transcriptomics", Nature Communications (2019).
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    num, width = features_MF.shape
    components = PCA(n_components=min(50, num, width), svd_solver="full").fit(features_MF)
    reduced = components.transform(features_MF)
    explained = float(components.explained_variance_ratio_[:2].sum())
    if reduced.shape[1] < 2:  # a single feature
        return np.column_stack([reduced[:, 0], np.zeros(num)]), explained
    places = TSNE(
        n_components=2, perplexity=min(30.0, (num - 1) / 3), init="pca", random_state=derive_seed(seed, "t-SNE") % 2**32
    ).fit_transform(reduced)
    return np.asarray(places, dtype=np.float64), explained


def _neighbours_agree(features_MF: np.ndarray[Any, Any], labels_M: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return for which images (bool, M) more than half of the nearest neighbours, by angle, are of the same class."""
    from sklearn.neighbors import NearestNeighbors

    neighbours = min(_NEIGHBOURS, len(labels_M) - 1)
    search = NearestNeighbors(n_neighbors=neighbours, metric="cosine").fit(features_MF)
    nearest = search.kneighbors(return_distance=False)  # of each image itself not counted
    same: np.ndarray[Any, Any] = (labels_M[nearest] == labels_M[:, None]).sum(1) * 2 > neighbours
    return same


# Evidence


def _evidence(answers: _Answers, classifier: Classifier, subject: Subject) -> Section:
    """Show where in the picture the evidence lies, for right and for wrong answers, by Grad-CAM."""
    random = np.random.default_rng(derive_seed(subject.options.seed, "evidence"))
    chosen = {}
    for kind, mask_N in (("right", answers.right()), ("wrong", ~answers.right())):
        places = mask_N.nonzero().flatten().numpy()
        chosen[kind] = torch.from_numpy(random.permutation(places)[:_MEASURED])
    try:
        pictures = answers.images.images_NCHW
        areas = {
            kind: half_area(grad_cam(classifier, pictures[places], answers.predicted_N[places])).numpy()
            for kind, places in chosen.items()
            if len(places)
        }
        figure = _attention_figure(answers, classifier, chosen, subject.split)
    except MissingExtraError as error:
        return Section(notes=(f"Where its evidence lies was not looked at: {error}.",))
    known = {kind: area[np.isfinite(area)] for kind, area in areas.items()}
    figures = {kind: mean_figure(area, 0.0) for kind, area in known.items() if len(area)}
    example = classifier.model.preprocess(answers.images.images_NCHW[:1].to(classifier.device))
    cells = last_maps(classifier.model.network, example)[1]
    empty = {kind: int((~np.isfinite(area)).sum()) for kind, area in areas.items()}
    sentence = " and ".join(
        f"{per_cent(figures[kind]['value'], 0)} of the picture for {kind} answers" for kind in figures
    )
    return Section(
        findings=(f"Half of its evidence lies, on average, in {sentence}.",) if figures else (),
        figures={
            "evidence": {
                "cells": list(cells),
                "half_area": {kind: {**one, "images": len(known[kind])} for kind, one in figures.items()},
                "without_evidence": empty,
            }
        },
        plots={"evidence": figure},
        captions={
            "evidence": "Bright: where the evidence for a class lies (Grad-CAM). Wrong answers, the surest first: "
            "above the evidence for the answer given, below that for the true class."
        },
        notes=(
            f"Grad-CAM looks at the last feature maps, of {cells[0]} x {cells[1]} cells, so it is coarse; it shows "
            "where evidence was found, not what it was, and proves no reason. Measured on "
            f"{' and '.join(count(len(places), f'{kind} answer') for kind, places in chosen.items())}.",
        ),
    )


def _attention_figure(answers: _Answers, classifier: Classifier, chosen: dict[str, torch.Tensor], split: str) -> Any:
    """Draw some right answers, of different classes where there are, and the surest wrong ones."""
    wrong_M = (~answers.right()).nonzero().flatten()
    surest_M = wrong_M[answers.confidence_N[wrong_M].argsort(descending=True, stable=True)][:_PICTURES]
    right = _explained(answers, classifier, _one_of_each(chosen["right"], answers.labels_N), with_truth=False)
    wrong = _explained(answers, classifier, surest_M, with_truth=True)
    return plots.attention_figure(right, wrong, f"Where the evidence lies ({split} split)")


def _one_of_each(places_M: torch.Tensor, labels_N: torch.Tensor) -> torch.Tensor:
    """Return some of the positions: the first of each class, then the others."""
    seen: set[int] = set()
    firsts: list[int] = []
    others: list[int] = []
    for place in places_M.tolist():
        label = int(labels_N[place])
        (others if label in seen else firsts).append(place)
        seen.add(label)
    return torch.tensor((firsts + others)[:_PICTURES], dtype=torch.int64)


def _explained(
    answers: _Answers, classifier: Classifier, places_M: torch.Tensor, *, with_truth: bool
) -> list[plots.Explained]:
    if not len(places_M):
        return []
    pictures, names = answers.images.images_NCHW[places_M], answers.images.class_names
    given_M, truth_M = answers.predicted_N[places_M], answers.labels_N[places_M]
    for_given = grad_cam(classifier, pictures, given_M)
    for_truth = grad_cam(classifier, pictures, truth_M) if with_truth else [None] * len(places_M)
    return [
        plots.Explained(picture, names[label], names[said], float(answers.confidence_N[place]), given, truth)
        for picture, label, said, place, given, truth in zip(
            pictures, truth_M.tolist(), given_M.tolist(), places_M.tolist(), for_given, for_truth, strict=True
        )
    ]
