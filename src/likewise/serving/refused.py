"""A request that is not answered: the status, and why in one sentence."""


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
