"""The commands that need no run: demo, methods, objectives, policies, figure."""

from collections.abc import Iterator
from pathlib import Path

from jsonargparse import Namespace

from likewise.cli.help import as_typed
from likewise.cli.options import add_set
from likewise.cli.parser import Command, Parser
from likewise.config.objective_table import DRAWN, objective
from likewise.config.overrides import flatten
from likewise.config.policy_table import policy
from likewise.config.settings import FitSettings
from likewise.config.values import Value
from likewise.console import stages, track
from likewise.errors import LikewiseError
from likewise.files import as_path
from likewise.methods import METHODS, Method, method_named
from likewise.text import readable


def _add_demo(parser: Parser) -> None:
    parser.add_argument("--out", type=str, default="runs/demo", help="run folder; an earlier demo is replaced")


def _demo(arguments: Namespace) -> int:
    from likewise.cli.demo import demo

    demo(as_path(arguments.out, "--out"))
    return 0


def _add_methods(parser: Parser) -> None:
    parser.add_argument(
        "name", type=str, nargs="?", default=None, metavar="NAME", help="a method; default: all of them"
    )


def _methods(arguments: Namespace) -> int:
    from likewise.cli.objectives import fitting

    if arguments.name is not None:
        method = method_named(arguments.name)
        print("\n".join([*_about(method), "  settings", *_settings(method)]))
        return 0
    for method in METHODS.values():
        print("\n".join(_about(method)))
    print("\nWhat is known about the data, and the objectives that fit (see likewise objectives):\n")
    print("\n".join(fitting()))
    return 0


def _about(method: Method) -> Iterator[str]:
    """The four choices of a method, its paper, and its departures from it."""
    yield method.name
    choices = {
        "paper": method.paper,
        **({"also": ", ".join(method.aliases)} if method.aliases else {}),
        "alike": method.alike,
        "dictionary": method.dictionary,
        "negatives": method.negatives,
        "objective": method.objective,
    }
    yield from (f"  {name:<12}{text}" for name, text in choices.items())
    yield from (f"  departs     {line}" for line in method.departures)


def _settings(method: Method) -> Iterator[str]:
    """The settings that the method changes, as options of ``likewise fit``."""
    usual = flatten(FitSettings())
    for name, value in flatten(method.settings).items():
        if value != usual.get(name) and name != "method":
            yield f"    --{name} {as_typed(value)}"


def _add_objectives(parser: Parser) -> None:
    parser.add_argument(
        "name",
        type=str,
        nargs="?",
        default=None,
        metavar="NAME",
        help="an objective; default: all of them",
    )


def _objectives(arguments: Namespace) -> int:
    from likewise.cli.objectives import overview, page

    print("\n".join(overview() if arguments.name is None else page(objective(arguments.name))))
    return 0


def _add_policies(parser: Parser) -> None:
    parser.add_argument(
        "name", type=str, nargs="?", default=None, metavar="NAME", help="a policy of negatives; default: all of them"
    )


def _policies(arguments: Namespace) -> int:
    from likewise.cli.objectives import policies, policy_page

    print("\n".join(policies() if arguments.name is None else policy_page(policy(arguments.name))))
    return 0


def _add_figure(parser: Parser) -> None:
    parser.add_argument(
        "name", type=str, metavar="NAME", help="an objective, such as circle or am-softmax; all for every one"
    )
    parser.add_argument(
        "--out", type=str, default=None, help="OUT.png and OUT.svg; for all a folder; default: the objective's name"
    )
    add_set(parser, "the objective's parameters, as in --set gamma=80 margin=0.25")
    parser.add_argument(
        "--range", type=float, nargs=2, default=[-1.0, 1.0], help="lowest and highest similarity drawn: -1 1, or 0 1"
    )


def _figure(arguments: Namespace) -> int:
    from likewise.reports.figure import draw_all, draw_named

    low, high = arguments.range
    if arguments.name.lower() != "all":
        with stages() as begin:
            begin(f"drawing {arguments.name}")
            drawn = draw_named(arguments.name, arguments.out, arguments.set, (low, high))
        print(readable(str(drawn)))
        return 0
    if arguments.set:
        raise LikewiseError("--set gives the parameters of one objective; name that objective instead of all.")
    with track("drawing", len(DRAWN)) as tick:
        for number, drawn in enumerate(draw_all(Path(arguments.out or "figures"), (low, high)), start=1):
            print(readable(str(drawn)), flush=True)
            tick(number)
    return 0


DEMO = Command(
    name="demo",
    group="begin",
    help="Train on 5,000 handwritten digits without labels, and measure.",
    add=_add_demo,
    run=_demo,
)
LIST_METHODS = Command(
    name="methods",
    group="begin",
    help="List the methods and which objectives fit which data, or show one method.",
    add=_add_methods,
    run=_methods,
)
LIST_OBJECTIVES = Command(
    name="objectives",
    group="begin",
    help="List the objectives, or show one with its equation and parameters.",
    add=_add_objectives,
    run=_objectives,
)
LIST_POLICIES = Command(
    name="policies",
    group="begin",
    help="List the policies of negatives (mining), or show one with its parameters.",
    add=_add_policies,
    run=_policies,
)
FIGURE = Command(
    name="figure",
    group="begin",
    help="Draw an objective: loss, gradients, decision boundary, where descent ends.",
    add=_add_figure,
    run=_figure,
    numbers={"range": Value(least=-1, most=1)},
)
