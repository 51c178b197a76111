"""What an index knows of its folder, so that it writes there only what has changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from likewise.index import generations
from likewise.index.engine import Engine, Keys
from likewise.index.items_table import Held, to_table

PARTS = 32  # files of items, from which all are written as one


class Saved(NamedTuple):
    """What an index knows of the folder that it was loaded from, or saved in.

    Args:
        folder: where.
        manifest: of the generation then.
        keys: those in the files of that generation, also of items that are gone, ascending.
        engine: the file of its engine; empty once the engine has changed.
    """

    folder: Path | None = None
    manifest: generations.Manifest | None = None
    keys: Keys = generations.NONE
    engine: str = ""

    def _after(self, folder: Path, present: generations.Manifest | None, count: int) -> "Saved | None":
        """This, if the folder still holds that generation and can take one more file, for ``count`` items; else None.

        It is not, either, where a quarter of what would be read is gone.
        """
        if present is None or self.manifest is None or self.folder != folder.resolve():
            return None
        whole = present == self.manifest and len(present.parts) < PARTS
        return self if whole and len(self.keys) <= 4 * count / 3 else None

    def with_this(self, folder: Path, held: Held, about: Mapping[str, Any], engine: Engine | None) -> "Saved":
        """Writes the next generation of an index, whole or not at all; what is known then.

        Args:
            folder: it is made if missing.
            held: the items; their keys ascend.
            about: for the manifest; ``protocol`` is written beside the items too.
            engine: None of exact search.

        Raises OSError from the file system.
        """
        with generations.writing(folder) as (writer, present):
            former = self._after(folder, present, len(held.ids))
            last = int(former.keys[-1]) if former else -1
            start = int(np.searchsorted(held.keys, last, "right"))
            parts = list(writer.keep(present.parts) if former and present else ())
            if start < len(held.ids):
                parts.append(writer.table(to_table(held.since(start), about["protocol"])))
            written = np.concatenate([former.keys, held.keys[start:]]) if former else held.keys
            gone = generations.NONE
            if len(written) > len(held.ids):
                gone = written[~np.isin(written, held.keys, assume_unique=True, kind="table")]
            file = ""
            if engine is not None:
                same = former is not None and self.engine
                file = writer.keep([self.engine])[0] if same else writer.engine(engine.write)
            manifest = writer.finish(about, parts, writer.numbers(gone) if len(gone) else "", file)
        return Saved(folder.resolve(), manifest, written, file)
