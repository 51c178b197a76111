"""What requests and answers look like, for checks and for the schema at /openapi.json."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from likewise.look.polygon import MOST_CORNERS

MOST_NUMBERS = 65_536
Numbers = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1, max_length=MOST_NUMBERS)]
Where = Annotated[list[Annotated[str, Field(max_length=1000)]], Field(max_length=16)]
Hits = Annotated[int, Field(ge=1, description="number of hits; /api/about says how many are allowed")]


class Strict(BaseModel):
    """Unknown names are refused, and no text is taken for a number."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Item(Strict):
    """An item: by one of id, vector, embedding and url."""

    id: Annotated[str, Field(max_length=4096, description="of an item of the index")] | None = None
    vector: Annotated[Numbers, Field(description="of an item, which the model embeds")] | None = None
    embedding: Annotated[Numbers, Field(description="a row of the embedding")] | None = None
    url: Annotated[str, Field(max_length=4096, description="of a picture, where --allow_urls is set")] | None = None


class Question(Item):
    """What is searched for."""

    k: Hits = 10
    where: Where = []


class Vector(Strict):
    """A vector that the model embeds."""

    vector: Numbers


class Problem(BaseModel):
    """Why a request is not answered."""

    detail: str


class Embedded(BaseModel):
    """A row of length 1."""

    embedding: list[float]


class NotEmbedded(BaseModel):
    """Why one of several was not embedded."""

    error: str


class Query(BaseModel):
    """What was asked for: null for what is no item. Several labels have commas between them, here and elsewhere."""

    row: int | None
    id: str | None
    label: str | None


class Hit(BaseModel):
    """An item that was found. ``wrong``: it shares no label with the query; null where those of one are not known."""

    row: int | None
    id: str
    score: float
    label: str | None
    wrong: bool | None


class Answered(BaseModel):
    """The hits, best first."""

    query: Query
    hits: list[Hit]


class Copy(BaseModel):
    """An item that is a near-copy."""

    row: int | None
    id: str
    similarity: float


class Copies(BaseModel):
    """Near-copies, the most alike first, and the lowest similarity of one."""

    duplicates: list[Copy]
    threshold: float


class Vote(BaseModel):
    """The part that a label has of the votes."""

    label: str
    share: float


class Classified(BaseModel):
    """The label that the nearest items vote for."""

    label: str
    confidence: float
    votes: list[Vote]


class Health(BaseModel):
    """The model was run on a stored input, and its row searched for."""

    ok: bool
    items: int
    engine: str
    off_by: float


class Limits(BaseModel):
    """What a request may hold."""

    k: int
    pixels: int
    bytes: int


class About(BaseModel):
    """What is served."""

    run: str
    items: int
    dim: int
    kind: str
    labels: list[str] | None
    metadata: list[str]
    pictures: bool
    why_no_pictures: str
    engine: str
    command: str
    protocol: dict[str, str | int | float]
    limits: Limits


class Described(BaseModel):
    """An item of the index, with its metadata."""

    row: int
    id: str
    label: str | None
    columns: dict[str, Any]


class Area(Strict):
    """A part of the map: a polygon, of which points, under which conditions."""

    polygon: Annotated[
        list[Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=2, max_length=2)]],
        Field(min_length=3, max_length=MOST_CORNERS, description="corners in units of the map"),
    ]
    shown: Annotated[str, Field(description="base64 of a bit for each row, the lowest first; default: all")] | None = (
        None
    )
    where: Where = []


class Inside(BaseModel):
    """The items in a part of the map: their number, how many have each label, and the rows of at most 1,000."""

    count: int
    labels: dict[str, int]
    rows: list[int]


class Compared(Strict):
    """What all items are compared with: an item of the index, or a row."""

    id: Annotated[str, Field(max_length=4096)] | None = None
    embedding: Numbers | None = None


class Verdict(BaseModel):
    """The verdict of the report; the sentence is null where there is none."""

    sentence: str | None
    signs: list[str]
    advice: list[str]


class Progress(BaseModel):
    """The share of the map that is made, from 0 to 1; 0 before that."""

    share: float
