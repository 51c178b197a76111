"""Settings that a run does not use are said, and each is used somewhere."""

import pytest

from likewise.config.overrides import flatten, settings_from
from likewise.config.settings import FitSettings
from likewise.config.unused import OF_IMAGES, OF_VECTORS, USES, unused
from likewise.methods import METHODS


@pytest.mark.parametrize(
    ("method", "given", "kind", "said"),
    [
        (
            "cdml",
            {"clusters.level": 1},
            None,
            ["clusters.level is not used here, but with sampler.planted=siblings or"],
        ),
        ("cdml", {"clusters.level": 1, "sampler.planted": "siblings"}, None, []),
        ("gcml", {"clusters.level": 1}, None, []),
        ("moco", {"queue.size": 7, "bank.momentum": 0.1}, "images", ["bank.momentum is not used here, but with dict"]),
        (
            "npid",
            {"queue.size": 7, "key_encoder.momentum": 0.1},
            "images",
            ["queue.size, key_encoder.momentum are not"],
        ),
        ("npid", {"views.flip": 0.1, "views.noise": 0.3}, "vectors", ["views.flip is not used here, but with images"]),
        ("npid", {"views.flip": 0.1, "views.noise": 0.3}, "images", ["views.noise is not used here, but with vectors"]),
        ("npid", {"queue.size": FitSettings().queue.size}, "images", []),  # the default
    ],
)
def test_what_is_not_used_is_said(method: str, given: dict[str, object], kind: str | None, said: list[str]) -> None:
    usual = METHODS[method].settings
    settings = settings_from(given, usual)
    lines = list(unused(settings, settings, given.keys(), usual, kind))
    assert len(lines) == len(said)
    assert all(line.startswith(f"warning: {part}") for line, part in zip(lines, said, strict=True)), lines


@pytest.mark.parametrize("name", METHODS)
def test_a_method_uses_what_it_sets(name: str) -> None:
    settings = METHODS[name].settings
    names = flatten(settings).keys()
    assert not list(unused(settings, settings, names, FitSettings(), None))


def test_the_names_are_settings() -> None:
    known = {*flatten(FitSettings()), *vars(FitSettings())}
    assert known >= {*OF_IMAGES, *OF_VECTORS, *(name for use in USES for name in use.names)}
