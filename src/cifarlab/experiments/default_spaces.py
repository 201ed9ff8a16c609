"""Built-in search spaces of every model family, for those who do not write their own.

The ranges are wide enough to hold what the recipes use and what papers report, and relative to the recipe where a good
value depends on its batch size or loss, as a learning rate does.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from cifarlab.config import Config
from cifarlab.errors import UsageError
from cifarlab.experiments.space import Space, load_space, parse_space

BUILT_IN: dict[str, str] = {
    "rates": "learning rates, momentum and weight decay",
    "regularisers": "weight decay, label smoothing, dropout, shifts and cutout",
    "architecture": "activation, normalisation, layers",
    "default": "the learning rates, and the regularisers that matter most",
}

_AROUND = 5  # a learning rate is searched from a fifth to five times the recipe's

_DECAY = {"sgd": "log:1e-5:5e-3", "muon": "log:1e-5:5e-3", "adamw": "log:1e-4:0.5"}
_ARCHITECTURE = {
    "convnet": {
        "activation": "relu,gelu,silu",
        "norm": "none,batch,group",
        "pool": "max,average,stride",
        "head": "flatten,average",
        "hidden": "[],[128],[256]",
    },
    "mixconv": {
        "activation": "relu,gelu,silu",
        "branches": "2,4,8",
        "mixing": "softmax,sigmoid,raw",
        "residual": "false,true",
        "hidden": "[],[128],[256]",
    },
    "resnet": {"variant": "resnet20,resnet56,resnet18", "dropout": "0:0.3"},
    "speednet": {
        "activation": "relu,gelu,silu",
        "convs": "1,2,3",
        "bn_momentum": "0.1:0.8",
        "logit_scale": "log:0.03:0.3",
    },
}


def choose_space(config: Config, named: str = "", searched: tuple[str, ...] = ()) -> Space:
    """Return the space that the command line asks for, checked.

    Args:
        config: Where the search starts from.
        named: A YAML file or the name of a built-in space; empty for none.
        searched: Dimensions written ``field=values``; they replace those of ``named`` or join them. With neither, the
            built-in space 'default' is taken.

    Raises:
        UsageError: If there is neither a file nor a built-in space of that name, or the space does not fit Config.
    """
    texts: list[str] = []
    if named and named not in BUILT_IN and not Path(named).suffix and not Path(named).is_file():
        close = difflib.get_close_matches(named, BUILT_IN, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"no search space {named!r}; {hint}built in are {', '.join(BUILT_IN)}, or give a YAML file")
    if named in BUILT_IN or not (named or searched):
        texts = built_in_space(config, named or "default")
    elif named:
        texts = [f"{dimension.field}={dimension.text}" for dimension in load_space(Path(named), config)]
    return parse_space([*texts, *searched], config)


def built_in_space(config: Config, name: str) -> list[str]:
    """Return the dimensions of a built-in space for the family and the optimiser of a configuration, as text."""
    family, optimizer = config.model.name, config.optimizer
    rates = [f"optimizer.lr={_around(optimizer.lr)}"]
    if optimizer.name == "muon":
        rates += [f"optimizer.{one}={_around(getattr(optimizer, one))}" for one in ("head_lr", "bias_lr")]
    decay = [f"optimizer.weight_decay={_DECAY[optimizer.name]}"]
    smoothing = ["train.label_smoothing=0:0.3:0.05"]
    dropout = [] if family == "speednet" else [f"model.{family}.dropout=0:0.5"]
    # the masks and shifts of a 32-pixel image, smaller where the images are
    shift, hole = max(1, config.data.image_size // 8), max(2, config.data.image_size // 8)
    if name == "rates":
        return [*rates, "optimizer.momentum=0.5:0.98", *decay]
    if name == "regularisers":
        moves = [f"augment.translate=0:{shift}", f"augment.cutout=0:{4 * hole}:{hole}"]
        return [*decay, *smoothing, *dropout, *moves]
    if name == "architecture":
        return [f"model.{family}.{field}={values}" for field, values in _ARCHITECTURE[family].items()]
    return [*rates, *decay, *smoothing, *dropout]


def _around(value: float) -> str:
    return f"log:{value / _AROUND:.3g}:{value * _AROUND:.3g}"
