"""Plants one bug at a time in a copy of the package and shows which test of objectives or negatives catches it first.

    python tests/conformance/planted_bugs.py [words of a bug's name]

Prints a Markdown table. Exits with 1 where a bug survives, cannot be planted, or the tests fail with no bug at all.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "src" / "likewise"


class Bug(NamedTuple):
    """Its name, the file it goes to, and the text it replaces: there once."""

    name: str
    file: str
    old: str
    new: str


BUGS = [
    Bug(
        "mining: hardest takes the furthest", "negatives.py", "column = _smallest(s_n.neg())", "column = _smallest(s_n)"
    ),
    Bug(
        "mining: beyond takes what is no further",
        "negatives.py",
        "return column, (gap > 0) & (gap < torch.inf)",
        "return column, gap < torch.inf",
    ),
    Bug(
        "mining: inside has no near edge",
        "negatives.py",
        "negative & (s_n < s_p) & (s_n > furthest)",
        "negative & (s_n > furthest)",
    ),
    Bug("mining: the quick way has no near edge", "objectives/hinge.py", "((far > of_pair) & (gap > 0))", "(gap > 0)"),
    Bug("mining: hard positive is the nearest", "negatives.py", '-s_p if how == "hard" else s_p', "s_p"),
    Bug(
        "mining: a pair's keys get no gradient",
        "kernels/numerics.py",
        "grad_keys.index_add_(0, b, queries[a].mul_(g))",
        "pass",
    ),
    Bug(
        "mining: the queries' order is lost",
        "objectives/mined.py",
        "columns, negatives, there = (restored(x, order) for x in",
        "columns, negatives, there = (x for x in",
    ),
    Bug(
        "a query meets itself",
        "alike.py",
        "Masks(columns, same & (columns != own[:, None]), negative)",
        "Masks(columns, same, negative)",
    ),
    Bug(
        "own is not followed into the sorted order",
        "alike.py",
        "own = torch.where(own < 0, own, place[own.clamp(min=0)])",
        "own = torch.where(own < 0, own, own)",
    ),
    Bug(
        "negatives include positives",
        "alike.py",
        "negative.scatter_(1, columns, (first == last).expand_as(columns))",
        "pass",
    ),
    Bug(
        "rows without a label are alike",
        "alike.py",
        "torch.where(key_ids < 0, -2 - places, key_ids)",
        "torch.where(key_ids < 0, -1, key_ids)",
    ),
    Bug(
        "the mean is over all rows",
        "objectives/base.py",
        "int(counted.count_nonzero()) if read",
        "counted.numel() if read",
    ),
    Bug(
        "the mean is a sum",
        "objectives/base.py",
        "return losses.sum() / (max(1, number)",
        "return losses.sum() / (1",
    ),
    Bug("the warning is said each time", "objectives/base.py", "self.warned = True", "pass"),
    Bug(
        "few pairs: the twin is not the twin all through",
        "kernels/row_losses.py",
        "with as_twin():",
        "with torch.enable_grad():",
    ),
    Bug(
        "few pairs: in a batch a query is its own positive",
        "alike.py",
        "self._roles(same ^ itself, ~same)",
        "self._roles(same, ~same)",
    ),
    Bug(
        "few pairs: autocast enters the backward pass",
        "kernels/row_losses.py",
        "guarded=autocast",
        "guarded=False",
    ),
    Bug(
        "the last ragged tile is dropped",
        "kernels/row_losses.py",
        "for start in range(0, len(losses), self.tile_rows):",
        "left_over = len(losses) % self.tile_rows if len(losses) > self.tile_rows else 0\n"
        "        for start in range(0, len(losses) - left_over, self.tile_rows):",
    ),
    Bug(
        "losses stay in sorted order",
        "kernels/row_losses.py",
        "return restored(losses, self.order), restored",
        "return losses, restored",
    ),
    Bug(
        "the keys' gradient stays in sorted order",
        "kernels/row_losses.py",
        "(None if shared else grad_keys, self.key_order)",
        "(None if shared else grad_keys, None)",
    ),
    Bug(
        "upstream gradients that differ are averaged",
        "kernels/row_losses.py",
        "bool((upstream == upstream[:1]).all())",
        "True",
    ),
    Bug(
        "in a batch the keys' side of the gradient is lost",
        "kernels/row_losses.py",
        "if grads[0] is not None and grad_keys is not None:",
        "if grads[0] is not None and grad_keys is not None and not shared:",
    ),
    Bug(
        "the scale is missing from the log-sum-exp's gradient",
        "kernels/numerics.py",
        "grad.unsqueeze(1) * ctx.scale)",
        "grad.unsqueeze(1))",
    ),
    Bug(
        "rows that do not count keep a loss",
        "kernels/numerics.py",
        "torch.where(counted, losses, 0.0), counted",
        "losses, counted",
    ),
    Bug(
        "Circle's α has a gradient",
        "objectives/pair_level.py",
        "(1 + m - s_p.detach()).clamp_(min=0), (s_n.detach() + m).clamp_(min=0)",
        "(1 + m - s_p).clamp(min=0), (s_n + m).clamp(min=0)",
    ),
    Bug("Circle's margin has the other sign", "objectives/pair_level.py", "alpha_n * (s_n - m)", "alpha_n * (s_n + m)"),
    Bug(
        "InfoNCE multiplies by the temperature",
        "objectives/pair_level.py",
        "s_p / self.temperature, masked_logsumexp(s_n, negative, 1 / self.temperature)",
        "s_p * self.temperature, masked_logsumexp(s_n, negative, self.temperature)",
    ),
    Bug(
        "SupCon leaves the positives out of its denominator",
        "objectives/pair_level.py",
        "masked_logsumexp(pull, positive), masked_logsumexp(s_n, negative, 1 / self.temperature)",
        "masked_logsumexp(s_n, negative, 1 / self.temperature), masked_logsumexp(s_n, negative, 1 / self.temperature)",
    ),
    Bug(
        "mining keeps easy negatives",
        "objectives/pair_level.py",
        "negative = negatives > hardest_p - self.epsilon",
        "negative = negatives > hardest_p - 1 - self.epsilon",
    ),
    Bug(
        "Triplet's margin has the other sign",
        "objectives/hinge.py",
        "near = distance(s_p, self.distance) + self.margin",
        "near = distance(s_p, self.distance) - self.margin",
    ),
    Bug(
        "Triplet's negatives pull",
        "objectives/hinge.py",
        "share_far * -grad.unsqueeze(1)",
        "share_far * grad.unsqueeze(1)",
    ),
    Bug(
        "Lifted takes the negatives of one end",
        "objectives/joined.py",
        "logaddexp(push[pairs.i], push_keys[pairs.j])",
        "push[pairs.i]",
    ),
    Bug(
        "Histogram adds up the other way",
        "objectives/joined.py",
        "negative * positive.cumsum(0)",
        "positive * negative.cumsum(0)",
    ),
    Bug(
        "AM-softmax's margin has the other sign",
        "objectives/class_level.py",
        "self.scale * (similarity - self.margin)",
        "self.scale * (similarity + self.margin)",
    ),
    Bug(
        "ArcFace's margin has the other sign",
        "objectives/class_level.py",
        "cosine * math.cos(self.margin) - sine * math.sin(self.margin)",
        "cosine * math.cos(self.margin) + sine * math.sin(self.margin)",
    ),
    Bug(
        "ψ does not fold",
        "objectives/class_level.py",
        "(1 - 2 * (k % 2)) * multiple - 2 * k",
        "multiple",
    ),
    Bug(
        "the keys' gradient lacks the upstream gradient",
        "kernels/logsumexp.py",
        "scaled, pulled = queries * scale, queries * pull",
        "scaled, pulled = queries * scale, queries * scale",
    ),
    Bug(
        "only the first tile of rows pulls the proxies",
        "kernels/class_losses.py",
        "if grad_keys is None else grad_keys.addmm_(weights.T, q)",
        "if grad_keys is None else grad_keys",
    ),
    Bug(
        "the own class is among the others",
        "kernels/class_losses.py",
        "logits.mul_(form.scale).scatter_(1, place, torch.finfo(queries.dtype).min)",
        "logits.mul_(form.scale)",
    ),
    Bug(
        "the gradient of proxies keeps its part along them",
        "kernels/class_losses.py",
        "if inverse is not None:\n            for start",
        "if False:\n            for start",
    ),
    Bug(
        "the running mean key is not rescaled from tile to tile",
        "kernels/logsumexp.py",
        "mean_key.mul_((logsumexp - finite).exp_())",
        "mean_key",
    ),
    Bug(
        "sampled softmax adds log(m Q)",
        "objectives/sampled.py",
        "sampled).T) - expected.to(queries.dtype)",
        "sampled).T) + expected.to(queries.dtype)",
    ),
    Bug(
        "accidental hits stay",
        "objectives/sampled.py",
        "logits.masked_fill(hits(rows), torch.finfo(logits.dtype).min)",
        "logits",
    ),
    Bug(
        "sampled classes: a row's second label is among the others",
        "objectives/sampled_classes.py",
        "(rows.unsqueeze(2) == drawn).any(1)",
        "(rows.unsqueeze(2) == drawn)[:, 0]",
    ),
    Bug("sampled classes: proxies keep their lengths", "objectives/sampled_classes.py", ", unit_keys=True", ""),
    Bug(
        "NCE forgets Z",
        "objectives/instance_level.py",
        "self.log_z.to(queries.dtype) + self._log_noise",
        "self._log_noise",
    ),
    Bug(
        "LambdaRank forgets the ideal DCG",
        "objectives/list_level.py",
        "gain = gains / ideal.clamp(min=1e-12).unsqueeze(1)",
        "gain = gains",
    ),
    Bug("lists: padding is a worse item", "kernels/lists.py", "return (i > j) & (j > -math.inf)", "return i > j"),
    Bug("soft ranks: the slope of a square", "kernels/lists.py", "behind.mul_(1 - behind)", "behind.mul_(behind)"),
]


def first_failure(source: Path) -> str:
    """The first test that fails with this package, or nothing. Compiling is slow and no bug needs it."""
    environment = os.environ | {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    options = [
        "-x",
        "-q",
        "-p",
        "no:randomly",
        "-p",
        "no:cacheprovider",
        "--tb=no",
        "--durations=0",
        "-k",
        "not compiled",
    ]
    command = [sys.executable, "-m", "pytest", str(HERE), str(HERE.parent / "test_negatives.py"), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) \S+?(?:::(\S+)|$)", done.stdout, re.MULTILINE)
    return (found and found[1]) or f"pytest ended with {done.returncode}: {done.stdout[-300:]}{done.stderr[-300:]}"


def plant(bug: Bug) -> str:
    """What caught the bug: a test, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "likewise"
        shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
        path = source / bug.file
        text = path.read_text()
        if text.count(bug.old) != 1:
            return f"**not planted**: the text is in {bug.file} {text.count(bug.old)} times"
        path.write_text(text.replace(bug.old, bug.new))
        return first_failure(Path(folder)) or "**survives**"


def main(words: list[str]) -> int:
    """Prints the table as it grows."""
    failure = "" if words else first_failure(PACKAGE.parent)
    if failure:
        print(f"without any bug {failure} fails: mend that first")
        return 1
    bugs = [bug for bug in BUGS if not words or any(word in bug.name for word in words)]
    print("| planted bug | file | first test that fails |\n|---|---|---|")
    missed = 0
    with ThreadPool(2) as pool:
        for bug, caught in zip(bugs, pool.imap(plant, bugs), strict=True):
            missed += caught.startswith("**")
            print(f"| {bug.name} | {bug.file} | {caught.replace('|', '/')} |", flush=True)
    print(f"\n{len(bugs) - missed} of {len(bugs)} caught")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
