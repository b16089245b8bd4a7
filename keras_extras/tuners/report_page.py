"""A page of figures and a table, in one file that opens without a server."""

import base64
import html
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_extras._core.files import whole_file


def write_page(
    path: str | os.PathLike,
    title: str,
    summary: str,
    figures: Mapping[str, Any],
    columns: Sequence[Sequence[str]],
) -> Path:
    """Writes an HTML file that holds all that it shows, complete or not at all.

    Args:
        path: Path of the file.
        title: String above the page.
        summary: String, its first paragraph.
        figures: Dict from headings to matplotlib Figures.
        columns: The table, each column as text, its name first.

    Returns:
        The path.
    """
    parts = [
        f"<h2>{html.escape(heading)}</h2>\n"
        f"<img alt='{html.escape(heading)}' src='{_as_data(figure)}'>"
        for heading, figure in figures.items()
    ]
    page = _PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        figures="\n".join(parts),
        table=_table(columns),
    )
    path = Path(path)
    with whole_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _table(columns):
    (head, *rows) = zip(*columns)
    names = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    lines = []
    for first, *cells in rows:
        rest = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        lines.append(f"<tr><th>{html.escape(first)}</th>{rest}</tr>\n")
    return f"<table>\n<thead><tr>{names}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table>"


def _as_data(figure):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Fonts have no glyphs of some scripts; the table shows the name.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="png", dpi=110)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem;
       margin: 2rem auto; padding: 0 1rem; }}
h1, p {{ overflow-wrap: anywhere; }}
img {{ max-width: 100%; border-radius: 4px; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ padding: 0.2rem 0.6rem; text-align: right;
         max-width: 30rem; overflow-wrap: anywhere; border-bottom: 1px solid #8884; }}
.table {{ overflow-x: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{summary}</p>
{figures}
<h2>All trials</h2>
<div class="table">
{table}
</div>
</body>
</html>
"""
