"""The model card: README.md of a run, with the header that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from markupsafe import Markup

from cifarlab.reporting.sources import Judged
from cifarlab.reporting.words import report_environment


def model_card(judged: Judged, shown: Mapping[str, Any], report: str = "report.html in this folder") -> str:
    """Return the card as Markdown.

    Args:
        judged: The run.
        shown: What :func:`cifarlab.reporting.record.record` says of it.
        report: Where the report lies.
    """
    context = {**shown, "header": _header(judged), "report": report}
    return report_environment().get_template("model_card.md.j2").render(context)


def _header(judged: Judged) -> Markup:
    """Return the YAML header of the model card, in the form the Hugging Face Hub reads.

    References:
        https://huggingface.co/docs/hub/model-cards
    """
    data = judged.config.data
    public = not (data.folder or data.csv)
    dataset = f"uoft-cs/{data.dataset}" if public else "imagefolder"
    # our licence covers what we made; whoever trains on images of their own decides for themselves
    header: dict[str, Any] = {"license": "apache-2.0"} if public else {"license": "other", "license_name": "not-chosen"}
    header |= {"library_name": "cifarlab", "pipeline_tag": "image-classification"}
    header |= {"datasets": [dataset] if public else [], "metrics": ["accuracy"], "tags": ["image-classification"]}
    title = "Accuracy, test-time views" if judged.with_views else "Accuracy"
    metric = {"type": "accuracy", "name": title, "value": judged.headline["value"]}
    task = {"type": "image-classification", "name": "Image classification"}
    source = {"type": dataset, "name": judged.data_name, "split": "test"}
    header["model-index"] = [
        {"name": judged.run.name, "results": [{"task": task, "dataset": source, "metrics": [metric]}]},
    ]
    return Markup(yaml.safe_dump(header, sort_keys=False, allow_unicode=True))  # noqa: S704 YAML does its own quoting
