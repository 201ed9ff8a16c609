"""Built-in search spaces of every model family, for those who do not write their own.

The ranges are wide enough to hold what the recipes use and what papers report, and relative to the recipe where a good
value depends on its batch size or loss, as a learning rate does.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from cifarlab.config import Config, OptimizerConfig
from cifarlab.errors import ConfigError, UsageError
from cifarlab.experiments.space import Space, load_space, parse_space

BUILT_IN: dict[str, str] = {
    "rates": "learning rates, momentum and weight decay",
    "regularisers": "weight decay, label smoothing, dropout, shifts and cutout",
    "architecture": "activation, normalisation, layers",
    "default": "the learning rates, and the regularisers that matter most",
}

_AROUND = 5  # a learning rate is searched from a fifth to five times the recipe's

_DECAY = {"sgd": (1e-5, 5e-3), "muon": (1e-5, 5e-3), "adamw": (1e-4, 0.5)}
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
    """Return the dimensions of a built-in space for the family and the optimiser of a configuration, as text.

    The ranges hold the recipe's own values; a dimension that does not go with the rest of the recipe is left out.
    """
    family, optimizer = config.model.name, config.optimizer
    rates = [f"optimizer.lr={_around(optimizer.lr)}"]
    if optimizer.name == "muon":
        rates += [f"optimizer.{one}={_around(getattr(optimizer, one))}" for one in ("head_lr", "bias_lr")]
    decay = [f"optimizer.weight_decay={_decay(optimizer)}"]
    smoothing = [f"train.label_smoothing={_holding(0, 0.3, config.train.label_smoothing)}"]
    dropout = [] if family == "speednet" else [f"model.{family}.dropout={_holding(0, 0.5, _dropout(config))}"]
    # the masks and shifts of a 32-pixel image, smaller where the images are
    shift, hole = max(1, config.data.image_size // 8), max(2, config.data.image_size // 8)
    if name == "rates":
        space = [*rates, f"optimizer.momentum={_holding(0.5, 0.98, optimizer.momentum)}", *decay]
    elif name == "regularisers":
        moves = [f"augment.translate=0:{shift}", f"augment.cutout=0:{4 * hole}:{hole}"]
        space = [*decay, *smoothing, *dropout, *moves]
    elif name == "architecture":
        space = [f"model.{family}.{field}={values}" for field, values in _ARCHITECTURE[family].items()]
    else:
        space = [*rates, *decay, *smoothing, *dropout]
    return _fitting(space, config)


def _fitting(space: list[str], config: Config) -> list[str]:
    kept: list[str] = []
    for text in space:
        try:
            parse_space([*kept, text], config)
        except ConfigError:
            continue
        kept.append(text)
    return kept


def _around(value: float) -> str:
    return f"log:{value / _AROUND:.3g}:{value * _AROUND:.3g}"


def _holding(low: float, high: float, value: float) -> str:
    return f"{min(low, value):g}:{max(high, value):g}"


def _decay(optimizer: OptimizerConfig) -> str:
    low, high = _DECAY[optimizer.name]
    if optimizer.weight_decay == 0:  # which a logarithmic range cannot hold
        return ",".join(f"{value:g}" for value in (0, low, 10 * low, high))
    return f"log:{min(low, optimizer.weight_decay):g}:{max(high, optimizer.weight_decay):g}"


def _dropout(config: Config) -> float:
    return float(getattr(getattr(config.model, config.model.name), "dropout", 0.0))
