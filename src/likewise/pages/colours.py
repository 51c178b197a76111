"""The colours of labels. People with any common colour blindness can tell them apart."""

# Okabe and Ito's palette without black and yellow, and four that are furthest from it. Two of them are at least 0.07
# apart in OKLab, also as protan, deutan and tritan eyes see them; tests/reports/test_colours.py measures it.
LABELS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
    "#4d1a80",
    "#800000",
    "#804d66",
    "#001acc",
)
REST = "#c4c9ce"  # of items without a label, and of labels that have no colour of their own
