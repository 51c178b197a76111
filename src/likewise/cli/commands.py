"""The table of commands, in the order of use."""

from likewise.cli.answers import DUPLICATES, OUTLIERS
from likewise.cli.compare import COMPARE, VERIFY
from likewise.cli.export import EXPORT
from likewise.cli.few_labels import CLASSIFY, SELECT
from likewise.cli.fit import FIT
from likewise.cli.graph import GRAPH
from likewise.cli.look import DEMO, FIGURE, LIST_METHODS, LIST_OBJECTIVES, LIST_POLICIES
from likewise.cli.measure import EVALUATE, RETRIEVE
from likewise.cli.recommend import RECOMMEND
from likewise.cli.search import INDEX, SEARCH
from likewise.cli.serve import SERVE
from likewise.cli.use import EMBED, REPORT
from likewise.cli.words import IMPORT

COMMANDS = (
    *(DEMO, LIST_METHODS, LIST_OBJECTIVES, LIST_POLICIES, FIGURE),
    *(GRAPH,),
    *(FIT,),
    *(EVALUATE, RETRIEVE, COMPARE, VERIFY),
    *(INDEX, SEARCH, RECOMMEND, EMBED, IMPORT, EXPORT, REPORT, SERVE),
    *(DUPLICATES, OUTLIERS, SELECT, CLASSIFY),
)
