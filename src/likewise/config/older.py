"""Translates settings of version 0.1.0 to the current names."""

from collections.abc import Mapping
from typing import Any

from likewise.config.objective_table import AUTO, objective
from likewise.config.settings import NegativeSettings, ObjectiveSettings
from likewise.errors import LikewiseError

OLDER_KINDS = {"softmax": "nonparametric-softmax", "parametric": "parametric-softmax"}
OLDER = {"noise_draw", "positive_in_noise", "log_z_decay", "mix", "scale", "margin", "gamma"}  # an old file has all
MARGINS = {"contrastive": "negative_margin", "margin": "alpha"}  # others: margin
SCALES = {"l2-softmax": "alpha", "normface": "scale", "am-softmax": "scale", "arcface": "scale"}  # others: gamma
POLICY_PARAMETERS = ("count", "margin", "epsilon", "least", "most")


def translated(values: dict[str, Any]) -> dict[str, Any]:
    """Translates the nested settings of an old file to the current names. Other settings stay as they are.

    An old file has all of the old names. In it ``softmax`` means the non-parametric softmax.
    """
    block = values.get("objective")
    if not isinstance(block, Mapping) or not set(block) >= OLDER:
        return values
    try:
        result = values | {"objective": _objective(block), "loss_weight": block["scale"]}
        if isinstance(result.get("negatives"), Mapping):
            result["negatives"] = _negatives(result["negatives"])
        return result
    except (KeyError, TypeError, AttributeError, ZeroDivisionError):
        raise LikewiseError(
            "the settings are version 0.1.0's, and a setting of objective or negatives is missing there or has no "
            "value that it may have; write them anew with `likewise fit --print_config`."
        ) from None


def _objective(block: Mapping[str, Any]) -> dict[str, Any]:
    kind = OLDER_KINDS.get(block["kind"], block["kind"])
    kind = kind if kind == AUTO else objective(kind).name
    named = {
        "temperature": block.get("temperature"),
        MARGINS.get(kind, "margin"): block["margin"],
        SCALES.get(kind, "gamma"): block["gamma"],
        **{"mix": block["mix"], "noise": block.get("noise"), "draw": block["noise_draw"]},
        **{"positive_in_noise": block["positive_in_noise"], "log_z": block.get("log_z")},
        **{"log_z_decay": block["log_z_decay"], "proximal": block.get("proximal")},
    }
    if kind == "parametric-softmax":
        named = {"scale": 1 / block["temperature"]}
    has = ObjectiveSettings(kind=kind).has()
    return {"kind": kind, **{name: value for name, value in named.items() if value is not None and name in has}}


def _negatives(block: Mapping[str, Any]) -> dict[str, Any]:
    has = NegativeSettings(
        policies=tuple([block["policies"]] if isinstance(block["policies"], str) else block["policies"])
    ).has()
    return {name: value for name, value in block.items() if name not in POLICY_PARAMETERS or name in has}
