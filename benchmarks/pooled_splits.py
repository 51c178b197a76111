"""Runs of several splits as one table: mean NDCG@10 of each model, and the paired difference to the run.

    python benchmarks/pooled_splits.py runs/seed-0 runs/seed-1 runs/seed-2 runs/seed-3 runs/seed-4

Each folder holds a recommendation.json, which `likewise evaluate RUN DATA --split cold-items --interactions FILE` wrote
for a graph of another `--seed`. The interval is that of a bootstrap of the users (or items) that are asked, with 2,000
draws: all values of one of them, from whatever split, are drawn together.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

FILE = "recommendation.json"
Values = dict[str, list[float]]  # of each user or item, from all splits


def interval(values: Values, draws: int = 2000) -> str:
    """The mean over all values, and the interval in which 95 % of the means of drawn users or items lie."""
    sums = np.array([sum(each) for each in values.values()])
    counts = np.array([len(each) for each in values.values()])
    drawn = np.random.default_rng(0).integers(len(sums), size=(draws, len(sums)))
    low, high = np.quantile(sums[drawn].sum(1) / counts[drawn].sum(1), [0.025, 0.975])
    return f"{sums.sum() / counts.sum():.4f} [{low:.4f} {high:.4f}]"


def print_table(what: str, values: dict[str, Values], first: str) -> None:
    """The mean of each model, and of what ``first`` has more, paired."""
    ours = values[first]
    print(f"\n{what}, {sum(map(len, ours.values())):,} items asked\n| model | NDCG@10 | {first} minus it |\n|-|-|-|")
    for model, each in values.items():
        gaps = {item: (np.array(ours[item]) - each[item]).tolist() for item in each}
        print(f"| {model} | {interval(each)} | {'–' if each is ours else interval(gaps)} |", flush=True)


def tables(folders: list[Path]) -> dict[str, dict[str, tuple[Values, Values, list[str]]]]:
    """Of each task and model: its values, those of the run minus its, and what was chosen in each split."""
    found: dict[str, dict[str, tuple[Values, Values, list[str]]]] = {}
    for folder in folders:
        for table in json.loads((folder / FILE).read_text())["tables"]:
            ours = table["rows"][0]["values"]
            for row in table["rows"]:
                empty = (defaultdict[str, list[float]](list), defaultdict[str, list[float]](list), list[str]())
                values, gaps, chosen = found.setdefault(table["task"], {}).setdefault(row["model"], empty)
                for asked, mine, run in zip(table["asked"], row["values"], ours, strict=True):
                    if mine is not None:
                        values[asked].append(mine)
                        gaps[asked].append(run - mine)
                chosen.append(row["chosen"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    folders = parser.parse_args().runs
    for task, models in tables(folders).items():
        print(f"\n{task}, {len(folders)} splits\n| model | NDCG@10 | run minus it, paired | chosen |\n|-|-|-|-|")
        for model, (values, gaps, chosen) in models.items():
            print(f"| {model} | {interval(values)} | {interval(gaps)} | {'; '.join(dict.fromkeys(chosen))} |")


if __name__ == "__main__":
    main()
