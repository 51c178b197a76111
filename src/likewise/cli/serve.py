"""The command serve."""

import os
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.options import add_run
from likewise.cli.parser import Command, Parser
from likewise.config.ranges import whole
from likewise.config.values import Value
from likewise.console import say
from likewise.errors import LikewiseError
from likewise.files import as_path

TOKEN = "LIKEWISE_TOKEN"  # of the environment


def _add_serve(parser: Parser) -> None:
    add_run(parser, help="run folder with an index")
    parser.add_argument(
        "--index",
        type=str,
        metavar="FOLDER_OR_URL",
        default=None,
        help="another index of the run's model: a folder, or postgresql://HOST/DATABASE",
    )
    parser.add_argument(
        "--data",
        type=str,
        metavar="DATA",
        default=None,
        help="items for pictures and labels; default: what the index was made of, or the training items",
    )
    parser.add_argument(
        "--host", type=str, default="127.0.0.1", help="address to listen to; any but this machine's own needs a token"
    )
    parser.add_argument("--port", type=int, default=8000, help="0: any that is free")
    parser.add_argument(
        "--token_file",
        type=str,
        metavar="FILE",
        default=None,
        help=f"file of the token that requests must bring; default: the environment's {TOKEN}, if it is set",
    )
    parser.add_argument(
        "--allow_host",
        type=str,
        action="append",
        metavar="NAME",
        default=[],
        help="a name by which the server is asked, such as that of a proxy; once for each",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes: one for each core that it may use")
    parser.add_argument("--queue", type=int, default=256, help="requests that may wait in a process; then 503")
    parser.add_argument("--allow_urls", action="store_true", help="fetch pictures from public URLs that requests name")
    parser.add_argument("--max_megapixels", type=float, default=25.0, help="of a picture that is decoded")
    parser.add_argument("--max_megabytes", type=float, default=20.0, help="of the body of a request")
    parser.add_argument("--k_limit", type=int, default=1000, help="most hits of a search")


def _serve(arguments: Namespace) -> int:
    from likewise.serving.settings import Serving

    a = arguments
    try:
        import fastapi  # noqa: F401
        import httptools  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError:
        raise LikewiseError("likewise serve needs a web server: pip install 'likewise[serve]'.") from None
    serving = Serving(
        run=as_path(a.run, "RUN"),
        index=a.index,
        data=a.data,
        host=a.host,
        port=a.port,
        token=_token(a.token_file),
        hosts=tuple(a.allow_host),
        workers=a.workers,
        queue=a.queue,
        allow_urls=a.allow_urls,
        max_megapixels=a.max_megapixels,
        max_megabytes=a.max_megabytes,
        k_limit=a.k_limit,
    )
    from likewise.serving.guards import is_loopback

    if serving.token is None and not is_loopback(serving.host):
        raise LikewiseError(
            f"--host {serving.host} can be reached by others, so it needs a token: write one into a file and give "
            f"--token_file FILE, or set {TOKEN}."
        )
    from likewise.serving.server import serve

    serve(serving, lambda line: say([line]))
    return 0


def _token(file: str | None) -> str | None:
    """The token of a file or of the environment. Raises LikewiseError on a file that can't be read or a short token."""
    from likewise.serving.settings import LEAST_TOKEN

    if file is None:
        where, token = TOKEN, os.environ.get(TOKEN)
    else:
        where = file
        try:
            token = Path(file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise LikewiseError(f"--token_file {file} can't be read: {error}.") from None
    if token is not None and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable()):
        raise LikewiseError(
            f"the token in {where} must have {LEAST_TOKEN} characters or more, all of them letters, digits or signs of "
            "ASCII: python -c 'import secrets; print(secrets.token_urlsafe())' makes one."
        )
    return token


SERVE = Command(
    name="serve",
    group="use",
    help="Serve a run with its index over HTTP: embed, search, classify, a page.",
    add=_add_serve,
    run=_serve,
    numbers={
        "port": Value(kind=int, least=0, most=65535),
        "workers": Value(kind=int, least=1, most=256),
        "queue": whole(1),
        "max_megapixels": Value(above=0, most=1e6),
        "max_megabytes": Value(above=0, most=1e6),
        "k_limit": Value(kind=int, least=1, most=10_000),
    },
)
