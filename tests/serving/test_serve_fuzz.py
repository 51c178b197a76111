"""Requests that schemathesis makes from the server's own schema: none gets a 5xx, and a planted bug is found."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
import uvicorn
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup, ServerError
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    use_after_free,
)
from serving.small_server import loaded_of, serving, small_run

from likewise.serving.app import make_app
from likewise.serving.finding import Finder
from likewise.serving.gate import Gate
from likewise.serving.loaded import Loaded
from likewise.serving.server import Draining, listen

FEW, MANY = 3, 300  # cases of each of a dozen operations
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    unsupported_method,
    use_after_free,
]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    place = tmp_path_factory.mktemp("fuzzed")
    small_run(place)
    return loaded_of(place / "run")


@contextmanager
def answering(gate: Gate, loaded: Loaded) -> Iterator[str]:
    """The address of a server in a thread."""
    listener, ready = listen(serving(loaded.run, port=0)), threading.Event()
    server = Draining(uvicorn.Config(gate, log_config=None, access_log=False, ws="none"), gate, ready.set)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        assert ready.wait(30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def fuzz(gate: Gate, loaded: Loaded, cases: int) -> int:
    """Sends requests of every operation, about half of them with an id, a row or a condition that the index has.

    Returns their number. Raises what schemathesis raises on an answer that is wrong.
    """
    local = loaded.local
    assert local is not None
    done = 0
    with answering(gate, loaded) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        for found in schema.get_all_operations():
            operation: Any = found.ok()

            @settings(
                max_examples=cases,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy())
            def ask(case: Any) -> None:
                nonlocal done
                done += 1
                body = case.body
                if isinstance(body, dict) and done % 2:
                    for name, known in (
                        ("id", local.ids[done % len(local)]),
                        ("embedding", [0.1] * local.rows.shape[1]),
                    ):
                        if body.get(name) is not None:
                            case.body = {"k": body.get("k", 5), name: known, "where": ["year >= 2003"][: done % 3]}
                case.call_and_validate(checks=CHECKS)

            ask()
    return done


@pytest.mark.parametrize("cases", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
def test_no_request_gets_a_5xx(loaded: Loaded, cases: int) -> None:
    done = fuzz(make_app(serving(loaded.run), loaded), loaded, cases)
    assert done >= 5 * cases
    print(f"{done} requests")


class Planted:
    """A finder that can't find more hits than there are items."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._finder, name)

    def __len__(self) -> int:
        return len(self._finder)

    def find(self, rows: Any, k: int, excluded: Any, where: Any) -> Any:
        return [[each[place] for place in range(k)] for each in self._finder.find(rows, k, excluded, where)]


def test_a_planted_bug_is_found(loaded: Loaded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    bad = replace(loaded, finder=Planted(loaded.finder))  # type: ignore[arg-type]
    gate = make_app(serving(loaded.run), loaded)
    gate.live.now = bad
    with pytest.raises(FailureGroup) as found:
        fuzz(gate, loaded, 40)
    assert found.group_contains(ServerError)


def test_the_schema_names_every_route(loaded: Loaded, tmp_path: Path) -> None:
    gate: Any = make_app(serving(loaded.run), loaded)
    paths = set(gate.api.openapi()["paths"])
    assert {"/api/search", "/api/search/upload", "/api/embed", "/api/embed/batch", "/health", "/metrics"} <= paths
