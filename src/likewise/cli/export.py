"""The command ``likewise export``: of a model as a folder that other tools load; of words in word2vec's format."""

from jsonargparse import Namespace

from likewise.cli.options import add_columns, add_features, add_layer, add_run, data_of
from likewise.cli.parser import Command, Parser
from likewise.cli.use import holds_words_in
from likewise.cli.words import WORD2VEC, export_words
from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.text import readable

_OF_MODELS = {"data": "--data", "features": "--features", "key": "--key", "image": "--image", "columns": "--columns"}


def _add_export(parser: Parser) -> None:
    add_run(parser)
    parser.add_argument(
        "--to",
        type=str,
        default=None,
        metavar="FORMAT",
        help=f"onnx (default), torch, safetensors, hf or timm; of a run of words {WORD2VEC}, which most tools read",
    )
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="PATH",
        help="new folder; of words a file, NAME.bin: the binary format, any other name: text",
    )
    add_layer(parser)
    parser.add_argument(
        "--data",
        type=str,
        metavar="DATA",
        default=None,
        help="items on which the export is compared with the model; default: the training items",
    )
    add_features(parser, instead_of="--data")
    add_columns(parser)
    parser.add_argument(
        "--licence",
        type=str,
        metavar="NAME",
        default="unknown",
        help="of the weights, for the model card, such as apache-2.0 or cc-by-4.0; default: unknown.",
    )
    parser.also("--license", "--licence")


def _export(arguments: Namespace) -> int:
    from likewise.exporting.export import export
    from likewise.model import layer_named

    a = arguments
    if holds_words_in(as_path(a.run, "RUN")):
        given = [option for key, option in _OF_MODELS.items() if a[key]]
        if given or a.layer != "embedding":
            raise LikewiseError(f"{a.run} holds words; leave {given[0] if given else '--layer'} out.")
        return export_words(a.run, a.to or WORD2VEC, a.out)
    if a.to == WORD2VEC:
        raise LikewiseError(f"--to {WORD2VEC} is for runs of words; `likewise embed` writes the rows of items.")
    data = data_of(a)
    if data is None and (a.key, a.image, tuple(a.columns)) != (None, None, ()):
        raise LikewiseError("--key, --image and --columns need --data; the training items have those of the training.")
    done = export(
        a.run,
        to=a.to or "onnx",
        out=a.out,
        layer=layer_named(a.layer),
        data=data,
        key=a.key,
        image=a.image,
        columns=a.columns,
        licence=a.licence,
    )
    print(readable(str(done)))
    return 0


EXPORT = Command(
    name="export",
    group="use",
    help="Write a model for other tools, such as ONNX; words in word2vec's format.",
    add=_add_export,
    run=_export,
)
