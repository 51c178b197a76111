"""Which files hold interactions: one, or the parts of a folder, as Spark writes them."""

from pathlib import Path

from likewise.errors import LikewiseError, closest

PARQUET = ".parquet"
_ENDINGS = (".csv", ".tsv", ".txt", PARQUET)
_ADVICE = (
    f"Give a file {', '.join(_ENDINGS[:-1])} (or with .gz after it) or {PARQUET}, with users and items, or a folder of "
    "such files."
)


def log_files(path: Path) -> list[Path]:
    """The file, or those of a folder by name. Hidden files, empty ones and those such as ``_SUCCESS`` do not count.

    Raises LikewiseError where there is none, or one is of no kind that is read, or of another kind than the first.
    """
    if not path.is_dir():
        _kind(path)
        return [path]
    found = [each for each in sorted(path.iterdir()) if not each.name.startswith((".", "_"))]
    inner = next((each for each in found if each.is_dir()), None)
    if inner is not None:
        raise LikewiseError(f"{path} holds the folder {inner.name}, and files in it are not read; name that folder.")
    files = [each for each in found if each.stat().st_size]
    if not files:
        raise LikewiseError(f"{path} is a folder without files of interactions. {_ADVICE}")
    kinds = [_kind(each) == PARQUET for each in files]
    if len(set(kinds)) > 1:
        other = files[kinds.index(not kinds[0])]
        raise LikewiseError(f"{path} holds text and parquet, {files[0].name} and {other.name}; leave one kind there.")
    return files


def holds_parquet(path: Path) -> bool:
    """Whether a file that :func:`log_files` gives is parquet, not text."""
    return _kind(path) == PARQUET


def _kind(path: Path) -> str:
    """The ending, without ``.gz``."""
    if not path.is_file():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise LikewiseError(f"{path} does not exist.{closest(path.name, siblings)} {_ADVICE}")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = suffixes[-2] if suffixes[-1:] == [".gz"] and len(suffixes) > 1 else (suffixes or [""])[-1]
    if kind not in _ENDINGS or (kind == PARQUET and suffixes[-1] == ".gz"):
        raise LikewiseError(f"{path} is of no kind that is read here. {_ADVICE}")
    return kind
