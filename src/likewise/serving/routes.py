"""The routes that embed, search, classify and look for copies, and those that describe items."""

import asyncio
import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.datastructures import UploadFile

from likewise.errors import LikewiseError
from likewise.pages.pictures import png
from likewise.serving import schemas
from likewise.serving.asked import Ask, Then, engine_of
from likewise.serving.fetching import fetch
from likewise.serving.loaded import Loaded
from likewise.serving.metrics import Metrics
from likewise.serving.openapi import COMMON, EITHER, MANY, UPLOAD, AsQuery, K, Threshold, Where, problems
from likewise.serving.refused import Refused, busy, sentence
from likewise.serving.settings import Serving
from likewise.serving.worker import Live, Worker
from likewise.stamp import without_places
from likewise.text import quoted

HEALTHY_WITHIN = 10.0  # seconds
DESCRIBED = 1000  # items at once
KEPT = 4096  # pictures as PNG
FETCHED = 4  # URLs at once


def as_json(value: Any) -> Response:
    """An answer; its floats are finite."""
    return Response(json.dumps(value, allow_nan=False), media_type="application/json")


class Asking:
    """Asks the worker for the routes.

    Args:
        live: what is served.
        worker: answers.
        serving: limits.
    """

    def __init__(self, live: Live, worker: Worker, serving: Serving) -> None:
        self.live, self.worker, self.serving = live, worker, serving
        self._fetching = asyncio.Semaphore(FETCHED)
        self._making = asyncio.Lock()

    async def one(self, ask: Ask) -> Response:
        """The answer of one request, as JSON. Raises Refused."""
        if ask.k > self.serving.k_limit:
            raise Refused(422, f"k is more than the {self.serving.k_limit:,} hits that this server allows (--k_limit).")
        answer = (await self.worker.ask([ask]))[0]
        if isinstance(answer, Refused):
            raise answer
        return as_json(answer)

    async def item(self, given: schemas.Item, then: Then, k: int = 10, where: Sequence[str] = ()) -> Response:
        """As ``one``, of an item by its id, vector, embedding or URL."""
        named = [name for name in ("id", "vector", "embedding", "url") if getattr(given, name) is not None]
        if len(named) != 1:
            raise Refused(422, "give exactly one of id, vector, embedding and url.")
        picture = None if given.url is None else await self._fetched(given.url)
        return await self.one(
            Ask(
                then=then,
                picture=picture,
                vector=given.vector,
                embedding=given.embedding,
                id=given.id,
                k=k,
                where=tuple(where),
            )
        )

    async def _fetched(self, url: str) -> bytes:
        if not self.serving.allow_urls:
            raise Refused(422, "this server fetches no URL; start it with --allow_urls, or send the picture's bytes.")
        if self._fetching.locked():
            raise busy("other URLs are being fetched; ask again in a second.")
        async with self._fetching:
            return await asyncio.to_thread(fetch, url, self.serving.max_bytes)

    async def prepare_copies(self) -> None:
        """Makes what looks for copies, which takes a pass over the pictures, outside the worker. Raises Refused."""
        async with self._making:
            try:
                await asyncio.to_thread(lambda: self.live.now.copies)
            except LikewiseError as error:
                raise Refused(409, str(error)) from None


def answers(asking: Asking) -> APIRouter:
    """The routes that embed and search."""
    router = APIRouter(prefix="/api")

    @router.post("/embed", openapi_extra=EITHER, responses={200: {"model": schemas.Embedded}, **COMMON})
    async def embed(request: Request, as_query: AsQuery = False) -> Response:
        """The row of one picture, or of a vector."""
        body = await request.body()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return await asking.one(Ask(then="embed", as_query=as_query, picture=body))
        try:
            given = schemas.Vector.model_validate_json(body)
        except ValidationError as error:
            raise Refused(422, sentence(error.errors())) from None
        return await asking.one(Ask(then="embed", as_query=as_query, vector=given.vector))

    @router.post(
        "/embed/batch",
        openapi_extra=MANY,
        responses={200: {"model": list[schemas.Embedded | schemas.NotEmbedded]}, **COMMON},
    )
    async def embed_batch(request: Request) -> Response:
        """The rows of several pictures. One that can't be used gets a sentence in its place, and changes no other."""
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Refused(422, "send the pictures as the files of a form (multipart/form-data).")
        async with request.form(max_files=asking.serving.queue, max_fields=0) as form:
            files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
            asks = [Ask(then="embed", picture=await file.read()) for file in files]
        if not asks:
            raise Refused(422, "the form holds no file.")
        found = await asking.worker.ask(asks)
        return as_json([{"error": each.sentence} if isinstance(each, Refused) else each for each in found])

    answered = {200: {"model": schemas.Answered}, **COMMON, **problems(404)}

    @router.post("/search", responses=answered)
    async def search(question: schemas.Question) -> Response:
        """The nearest items of an item of the index (which is left out), a vector, a row, or a picture at a URL."""
        return await asking.item(question, "search", question.k, question.where)

    @router.post("/search/upload", openapi_extra=UPLOAD, responses=answered)
    async def search_upload(request: Request, k: K = 10, where: Where = []) -> Response:  # noqa: B006
        """The nearest items of a picture."""
        return await asking.one(Ask(then="search", picture=await request.body(), k=k, where=tuple(where)))

    @router.post(
        "/duplicates", openapi_extra=UPLOAD, responses={200: {"model": schemas.Copies}, **COMMON, **problems(409)}
    )
    async def duplicates(request: Request, threshold: Threshold = None) -> Response:
        """Near-copies of a picture among the items, verified on the pixels."""
        picture = await request.body()
        await asking.prepare_copies()
        return await asking.one(Ask(then="duplicates", picture=picture, threshold=threshold))

    classified = {200: {"model": schemas.Classified}, **COMMON, **problems(404, 409)}

    @router.post("/classify", responses=classified)
    async def classify(item: schemas.Item) -> Response:
        """The label that the nearest items vote for."""
        return await asking.item(item, "classify")

    @router.post("/classify/upload", openapi_extra=UPLOAD, responses=classified)
    async def classify_upload(request: Request) -> Response:
        """The label that the nearest items of a picture vote for."""
        return await asking.one(Ask(then="classify", picture=await request.body()))

    return router


def descriptions(asking: Asking, command: str) -> APIRouter:
    """The routes that describe the run and its items."""
    router, live, serving = APIRouter(prefix="/api"), asking.live, asking.serving

    @router.get("/about", responses={200: {"model": schemas.About}, **problems(401, 403)})
    async def about() -> Response:
        """What is served."""
        loaded = live.now
        model, shown = loaded.model, loaded.shown
        return as_json(
            {
                "run": str(serving.run),
                "items": len(loaded.finder),
                "dim": loaded.finder.dim,
                "kind": "words" if model is None else "items" if model.blocks else model.kind,
                "labels": list(shown.label_names) or None,
                "metadata": list(loaded.finder.schema.names),
                "pictures": shown.pictured,
                "why_no_pictures": shown.why,
                "engine": engine_of(loaded),
                "command": command,
                "protocol": without_places(loaded.protocol),
                "limits": {
                    "k": serving.k_limit,
                    "pixels": int(serving.max_megapixels * 1e6),
                    "bytes": serving.max_bytes,
                },
            }
        )

    @router.get("/items", responses={200: {"model": list[schemas.Described]}, **problems(401, 403, 404, 409, 422)})
    async def items(
        rows: Annotated[
            str, Query(pattern=r"^[0-9]{1,9}(,[0-9]{1,9})*$", max_length=10_000, description="such as 0,7,12")
        ],
    ) -> Response:
        """Items by their rows in the index, at most 1,000, with their metadata."""
        loaded = live.now
        index = loaded.local
        if index is None:
            raise Refused(409, "the index is on servers, where items have no rows; search by id.")
        wanted = [int(row) for row in rows.split(",")]
        if len(wanted) > DESCRIBED:
            raise Refused(422, f"ask for at most {DESCRIBED:,} rows at once.")
        if max(wanted) >= len(index):
            raise Refused(404, f"the index has {len(index):,} items, counted from row 0.")
        table = index.columns.take(wanted).to_pylist() if index.columns.num_columns else [{}] * len(wanted)
        ids = [index.ids[row] for row in wanted]
        labels = [loaded.shown.text(each) for each in loaded.shown.labels_of(ids).tolist()]
        return as_json(
            [
                {
                    "row": row,
                    "id": item,
                    "label": label,
                    "columns": {name: plain(value) for name, value in each.items()},
                }
                for row, item, label, each in zip(wanted, ids, labels, table, strict=True)
            ]
        )

    @router.get(
        "/picture",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}, **problems(401, 403, 404, 422)},
    )
    async def picture(id: Annotated[str, Query(max_length=4096, description="of an item of the index")]) -> Response:
        """The picture of an item, as PNG, of the size that the model sees."""
        loaded = live.now
        content = loaded.pictures.get(id)
        if content is None:
            content = loaded.pictures[id] = await asyncio.to_thread(_png, loaded, id)
            if len(loaded.pictures) > KEPT:
                loaded.pictures.popitem(last=False)
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=60"})

    return router


def watching(asking: Asking, metrics: Metrics) -> APIRouter:
    """The routes for those who run the server."""
    router = APIRouter()

    @router.get("/health", responses={200: {"model": schemas.Health}, **problems(401, 403, 503)})
    async def health() -> Response:
        """Runs the model on a stored input and searches with it."""
        if asking.live.stopping:
            raise busy("the server stops.")
        try:
            async with asyncio.timeout(HEALTHY_WITHIN):
                answer = (await asking.worker.ask([Ask(then="health")], always=True))[0]
        except TimeoutError:
            raise busy(f"the model gave no answer within {HEALTHY_WITHIN:g} seconds.") from None
        if isinstance(answer, Refused):
            raise busy(answer.sentence)
        return as_json(answer)

    @router.get(
        "/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **problems(401, 403)}
    )
    async def prometheus() -> Response:
        """Counts and times, for Prometheus."""
        metrics.waiting.set(asking.worker.waiting)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    return router


def plain(value: Any) -> Any:
    """A value of a column as JSON has it: NaN and infinity are null, and what JSON does not know is text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value)


def _png(loaded: Loaded, item: str) -> bytes:
    pixels = loaded.shown.picture(item) if loaded.finder.row_by_id(item) is not None else None
    if pixels is None:
        raise Refused(404, f"no item of the index has the id {quoted(item)} and a picture.")
    return png(pixels, 1)
