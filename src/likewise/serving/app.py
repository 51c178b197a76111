"""The application: routes, errors as one sentence, and the life of the worker."""

import asyncio
import contextlib
import logging
import shlex
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from likewise import __version__
from likewise.serving.gate import Gate
from likewise.serving.loaded import Loaded
from likewise.serving.looking import Looking
from likewise.serving.metrics import Metrics
from likewise.serving.page_routes import page_routes
from likewise.serving.refused import Refused, failed, sentence
from likewise.serving.reloading import follow
from likewise.serving.routes import Asking, answers, descriptions, watching
from likewise.serving.settings import Serving
from likewise.serving.worker import Live, Worker

log = logging.getLogger("likewise.serving")

ADDRESSES = {  # what the framework says of what no route takes
    404: "there is nothing at this address; /openapi.json lists what there is.",
    405: "this address takes another method; the header Allow says which.",
}


def make_app(serving: Serving, loaded: Loaded) -> Gate:
    """The application of one process, an ASGI app; ``.live`` is what it serves, ``.api`` the routes behind the gate."""
    live, metrics = Live(loaded), Metrics(len(loaded.finder))
    worker = Worker(live, serving, metrics.batch.observe)
    asking, looking = Asking(live, worker, serving), Looking(live, serving)

    @contextlib.asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        worker.start(asyncio.get_running_loop())
        following = asyncio.create_task(follow(serving, live, metrics))
        yield
        following.cancel()
        looking.end()
        await worker.stop()

    app = FastAPI(
        title="likewise serve",
        version=__version__,
        description="What is alike: embeds pictures and vectors, and searches the items of a run.",
        lifespan=life,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    for router in (
        answers(asking),
        descriptions(asking, _command(serving)),
        watching(asking, metrics),
        page_routes(asking, looking),
    ):
        app.include_router(router)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    return Gate(app, serving, live, metrics)


def _command(serving: Serving) -> str:
    given = [("--index", serving.index), ("--data", serving.data)]
    words = ["likewise", "serve", str(serving.run)]
    return shlex.join([*words, *(word for option, value in given if value is not None for word in (option, value))])


def _told(status: int, detail: str, headers: Any = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return _told(error.status, error.sentence, error.headers)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return _told(error.status_code, ADDRESSES.get(error.status_code, str(error.detail)), error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _told(422, sentence(error.errors()))


async def _failed(request: Request, error: Exception) -> JSONResponse:
    return await _refused(request, failed())
