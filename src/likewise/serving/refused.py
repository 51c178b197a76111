"""A request that is not answered: the status, and why in one sentence."""

from collections.abc import Sequence
from typing import Any


class Refused(Exception):
    """What a client is told instead of an answer.

    Args:
        status: the code of HTTP.
        sentence: what is wrong, and what to do.
        headers: of the response, such as Retry-After.
    """

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}


def busy(sentence: str) -> Refused:
    """503: come back in a second."""
    return Refused(503, sentence, {"Retry-After": "1"})


def failed() -> Refused:
    """What to answer where the server itself is at fault; its log has the error."""
    return Refused(500, "the server failed at this request; its log says where.")


def sentence(errors: Sequence[Any]) -> str:
    """What is wrong with a request, from pydantic's errors."""
    first = errors[0]
    if first.get("type") == "json_invalid":
        return "the body is not JSON."
    if first.get("type") == "model_attributes_type":
        return "the body must be a JSON object, and the header Content-Type application/json."
    where = ".".join(str(part) for part in first.get("loc", ()) if part not in ("body", "query"))
    if first.get("type") == "string_pattern_mismatch":
        return f"{where} is written in another way; /openapi.json shows how."
    return f"{where or 'the request'}: {str(first.get('msg', 'is not as the schema says'))[:200]}."
