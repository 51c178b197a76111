"""The foot of a report: when, by which command and version, from which data, with which weights."""

import json
from collections.abc import Mapping
from typing import Any

from likewise import __version__
from likewise.pages.pieces import folded, listed, named
from likewise.stamp import Stamp
from likewise.text import now_in_words


def foot(stamp: Stamp, about: Mapping[str, Any], protocol: Mapping[str, object]) -> str:
    """The facts by which the run can be found and made again.

    Args:
        stamp: of the report: the model's and the items'.
        about: what the run's data.json says; empty if there is none.
        protocol: what made the embedding.
    """
    commands = [
        f"<code>{named(str(each.get('command')))}</code> ({named(str(each.get('at')))})"
        for each in about.get("commands", ())
        if isinstance(each, Mapping)
    ]
    trained = f"likewise {about.get('likewise', '?')}, torch {about.get('torch', '?')}, {about.get('machine', '?')}"
    facts = [
        ("report made", f"{now_in_words()}, likewise {__version__}"),
        ("trained by", "<br>".join(commands) or "not recorded: from Python, or by an older version"),
        ("trained with", named(trained) if about else "not recorded"),
        (
            "training items",
            f"{about['items']:,}, hash of their ids {named(about['ids_hash'])}" if about else "not recorded",
        ),
        (
            "items of this report",
            f"{named(str(stamp['data']))}: {stamp['data_items']:,}, hash of their ids {stamp['data_ids_hash']}",
        )
        if "data" in stamp
        else ("", ""),
        ("hash of the model", named(str(stamp["model"]))),
    ]
    details = folded("Protocol of the embedding", json.dumps(dict(protocol), ensure_ascii=False, indent=1))
    return f"<footer>{listed([fact for fact in facts if fact[0]])}{details}</footer>"
