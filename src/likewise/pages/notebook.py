"""HTML for the output of a cell of a notebook, light or dark."""

from importlib.resources import files

VARIABLES = (
    "--soft:color-mix(in srgb,currentColor 75%,transparent);--line:color-mix(in srgb,currentColor 20%,transparent);"
    "--panel:color-mix(in srgb,currentColor 8%,transparent);--link:inherit;--wrong:#d4483b;--c0:#1a85c8;--c1:#d9660a;"
    "--c2:#0d9270;--c3:#7a8691;"
)
STYLE = f".likewise{{{VARIABLES}{(files('likewise.pages') / 'pieces.css').read_text(encoding='utf-8')}}}"


def cell(body: str) -> str:
    """The pieces of a page as the output of a cell; their style is for them alone."""
    return f'<style>{STYLE}</style><div class="likewise">{body}</div>'
