"""The page at ``/`` and what it asks for: points of the map, scores, parts of the map, groups of items, the verdict."""

import csv
import io
from base64 import b64decode
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter, Query, Response

from likewise.errors import LikewiseError
from likewise.index.conditions import matching, parse_all
from likewise.look import Look
from likewise.look.groups import KINDS, Groups
from likewise.look.polygon import inside
from likewise.serving import schemas
from likewise.serving.finding import check_where, finite_row
from likewise.serving.looking import Looking, told
from likewise.serving.openapi import COMMON, problems
from likewise.serving.refused import Refused
from likewise.serving.routes import Asking, as_json
from likewise.text import quoted
from likewise.viewer.columns import read_column

TOLD = 1000  # rows of a part of the map; all are in the file
TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}

_BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}
_REFUSED = {**COMMON, **problems(409)}


def page_routes(asking: Asking, looking: Looking) -> APIRouter:
    """The page, and the routes that are for it alone."""
    router = APIRouter()

    @router.get("/", response_class=Response, responses={200: {"content": {"text/html": {}}}, **problems(401, 403)})
    async def page() -> Response:
        """The page for people."""
        return _file("index.html")

    @router.get("/static/{name}", response_class=Response, responses=problems(401, 403, 404))
    async def static(name: str) -> Response:
        """A file of the page."""
        return _file(name)

    @router.get("/api/points.bin", response_class=Response, responses={**_BYTES, **_REFUSED})
    async def points() -> Response:
        """The columns of the map's points; the first request makes the map, where the run has none."""
        return _octets(await looking.part(looking.now(), "points"))

    @router.get("/api/progress", responses={200: {"model": schemas.Progress}, **_REFUSED})
    async def progress() -> Response:
        """How much of the map is made."""
        return as_json({"share": await looking.share()})

    @router.post("/api/scores.bin", response_class=Response, responses={**_BYTES, **_REFUSED, **problems(404)})
    async def scores(with_what: schemas.Compared) -> Response:
        """The cosine of every item and an item or a row, as a column."""
        look, finder = looking.now(), asking.live.now.finder
        if (with_what.id is None) == (with_what.embedding is None):
            raise Refused(422, "give exactly one of id and embedding.")
        if with_what.embedding is not None:
            try:
                row = finite_row(with_what.embedding, finder.dim, "embedding")
            except LikewiseError as error:
                raise Refused(422, str(error)) from None
        else:
            found = finder.row_by_id(with_what.id or "")
            if found is None:
                raise Refused(404, f"no item of the index has the id {quoted(with_what.id)}.")
            row = found
        return _octets(await told(lambda: look.scores(row)))

    @router.post("/api/inside", responses={200: {"model": schemas.Inside}, **_REFUSED})
    async def inside_of(area: schemas.Area) -> Response:
        """The items in a part of the map."""
        look = looking.now()
        points = await looking.part(look, "points")
        rows, labels = await told(lambda: look.inside(_within(look, points, area)), 422)
        return as_json({"count": len(rows), "labels": labels, "rows": rows[:TOLD].tolist()})

    @router.post("/api/inside.csv", response_class=Response, responses={200: {"content": {"text/csv": {}}}, **_REFUSED})
    async def inside_csv(area: schemas.Area) -> Response:
        """The ids and labels of all items in a part of the map."""
        look = looking.now()
        points = await looking.part(look, "points")
        text = await told(lambda: _table(look, look.inside(_within(look, points, area))[0]), 422)
        return Response(text, media_type="text/csv; charset=utf-8")

    @router.get("/api/groups", responses={200: {"model": Groups}, **_REFUSED})
    async def groups(
        kind: Annotated[str, Query(pattern=f"^({'|'.join(KINDS)})$")],
    ) -> Response:
        """Near-copies, items that are far from all others, the weakest labels, or labels that are likely wrong."""
        return _json(await looking.part(looking.now(), kind))

    @router.get("/api/verdict", responses={200: {"model": schemas.Verdict}, **_REFUSED})
    async def verdict() -> Response:
        """What the embedding is worth, in plain words."""
        return _json(await looking.part(looking.now(), "verdict"))

    return router


def _within(look: Look, points: bytes, area: schemas.Area) -> npt.NDArray[np.bool_]:
    """(N,) which items of the index are in a part of the map."""
    columns = look.index.columns
    check_where(columns.schema, area.where)
    found = inside(area.polygon, np.stack([read_column(points, "x"), read_column(points, "y")], 1))
    if area.shown is not None:
        found &= _bits(area.shown, len(found))
    if area.where:
        found &= matching(columns, parse_all(area.where))
    return found


def _bits(text: str, count: int) -> npt.NDArray[np.bool_]:
    """(count,) the bits of base64. Raises LikewiseError on another number of bytes, and on what is no base64."""
    try:
        packed = np.frombuffer(b64decode(text, validate=True), np.uint8)
    except ValueError:
        raise LikewiseError("shown is not base64.") from None
    if len(packed) != -(-count // 8):
        raise LikewiseError(f"shown has {len(packed):,} bytes, but {count:,} points need {-(-count // 8):,}.")
    return np.unpackbits(packed, count=count, bitorder="little").astype(np.bool_)


def _table(look: Look, rows: npt.NDArray[np.int64]) -> bytes:
    """Rows as CSV. A name that a spreadsheet would take for a formula stays as it is: the file is for programs."""
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["id", "label"])
    writer.writerows([look.index.ids[row], look.label(row) or ""] for row in rows.tolist())
    return file.getvalue().encode(errors="backslashreplace")


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _octets(content: bytes) -> Response:
    return Response(content, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})


def _file(name: str) -> Response:
    """A file of the wheel. Only the names that are there are found: no path leads out of the folder."""
    folder = files("likewise.viewer") / "static"
    found = next((file for file in folder.iterdir() if file.name == name), None)
    kind = TYPES.get(name.rpartition(".")[2])
    if found is None or kind is None:
        raise Refused(404, f"the page has no file {quoted(name)}.")
    return Response(found.read_bytes(), media_type=f"{kind}; charset=utf-8", headers={"Cache-Control": "no-cache"})
