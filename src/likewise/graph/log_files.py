"""Which files hold interactions: one, or the parts of a folder, as Spark and pyarrow write them."""

from pathlib import Path

from likewise.data.parquet_files import ParquetPath
from likewise.errors import LikewiseError, closest

PARQUET = ".parquet"
_ENDINGS = (".csv", ".tsv", ".txt", PARQUET)
_ADVICE = (
    f"Give a file {', '.join(_ENDINGS[:-1])} (or with .gz after it) or {PARQUET}, with users and items, or a folder of "
    "such files."
)


def log_files(path: Path) -> list[ParquetPath[Path]]:
    """The file, or those of a folder by path. Hidden files, empty ones and those such as ``_SUCCESS`` do not count.

    Folders in it count if they stand for a column, as ``year=2019`` does: see :attr:`ParquetPath.partitions`.

    Raises LikewiseError where there is none, or one is of no kind that is read, or of another kind than the first.
    """
    if not path.is_dir():
        _kind(path)
        return [ParquetPath(path=path, name=path.name)]
    files = _below(path)
    if not files:
        raise LikewiseError(f"{path} is a folder without files of interactions. {_ADVICE}")
    kinds = [_kind(each) == PARQUET for each in files]
    if len(set(kinds)) > 1:
        other = files[kinds.index(not kinds[0])].relative_to(path)
        raise LikewiseError(
            f"{path} holds text and parquet, {files[0].relative_to(path)} and {other}; leave one kind there."
        )
    return [ParquetPath(path=each, name=each.relative_to(path).as_posix()) for each in files]


def _below(folder: Path) -> list[Path]:
    """The files that count, in a folder and in those of its folders that stand for a column."""
    files = list[Path]()
    for each in sorted(folder.iterdir()):
        if each.name.startswith((".", "_")):
            continue
        if not each.is_dir():
            files += [each] if each.stat().st_size else []
        elif "=" in each.name[1:]:
            files += _below(each)
        else:
            raise LikewiseError(
                f"{folder} holds the folder {each.name}, and files in it are not read; name that folder, or call "
                "folders by a column and its value, such as year=2019."
            )
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
