"""A report as blocks that become Markdown, or a page that holds its pictures and reads well on any screen."""

import base64
import dataclasses
import html
import pathlib
import re
from collections.abc import Iterable, Sequence

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --muted: #57606a; --faint: #d0d7de; --page: #fff; --card: #f6f8fa;
  --yes: #1a7f37; --no: #c0262d; --unsure: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --muted: #9aa4ae; --faint: #3a424c; --page: #0d1117;
  --card: #161b22; --yes: #56d364; --no: #ff7b72; --unsure: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; } h2 { font-size: 1.25rem; margin-top: 2.5rem; } h3 { font-size: 1.05rem; }
a { color: inherit; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: 0.3rem 0.6rem 0.3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--faint); }
th[scope=row] { font-weight: normal; }
pre { padding: 0.6rem; background: var(--card); border-radius: 0.4rem; white-space: pre-wrap; font-size: 0.85rem; }
img { max-width: 100%; height: auto; background: #fff; border-radius: 0.4rem; }
.verdict { margin: 0.5rem 0; padding-left: 0.7rem; border-left: 0.25rem solid var(--unsure); }
.verdict small { display: block; color: var(--muted); }
.yes { border-color: var(--yes); } .yes b { color: var(--yes); } .no { border-color: var(--no); }
.no b { color: var(--no); } .unsure b { color: var(--unsure); }
"""


@dataclasses.dataclass(frozen=True)
class Heading:
    """A heading, 1 the largest."""

    level: int
    text: str


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Text, in which *words* may be emphasised."""

    text: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of cells, the header first, in which *words* may be emphasised."""

    rows: Sequence[Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Code:
    """Commands."""

    text: str


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file beside the report, and what it shows."""

    file: str
    shows: str


@dataclasses.dataclass(frozen=True)
class Finding:
    """A claim, what became of it, and why."""

    kind: str  # "yes", "no" or "unsure"
    claim: str
    word: str
    why: str


Block = Heading | Paragraph | Table | Code | Picture | Finding


def to_markdown(blocks: Iterable[Block]) -> str:
    """The blocks as Markdown; pictures are links."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Table(rows):
            lines = [f"| {' | '.join(row)} |" for row in rows]
            return "\n".join([lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:]])
        case Code(text):
            return f"```sh\n{text}\n```"
        case Picture(file, shows):
            return f"![{shows}]({file})"
        case Finding(_, claim, word, why):
            return f"- {claim} **{word.capitalize()}**: {why}."


def to_html(blocks: Sequence[Block], folder: pathlib.Path) -> str:
    """The blocks as a page of its own, in which the pictures, from `folder`, are embedded."""
    title = next(html.escape(block.text) for block in blocks if isinstance(block, Heading))
    body = "\n".join(_html(block, folder) for block in blocks)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def _html(block: Block, folder: pathlib.Path) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_emphasised(text)}</p>"
        case Table(rows):
            head, *rest = [[_cell(cell) for cell in row] for row in rows]
            lines = ["".join(f'<th scope="col">{cell}</th>' for cell in head)]
            lines += [
                f'<th scope="row">{first}</th>' + "".join(f"<td>{each}</td>" for each in row) for first, *row in rest
            ]
            table = "".join(f"<tr>{line}</tr>" for line in lines)
            return f'<div class="scroll" tabindex="0"><table>{table}</table></div>'  # scrolled without a mouse, too
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Picture(file, shows):
            data = base64.b64encode((folder / file).read_bytes()).decode()
            return f'<p><img alt="{html.escape(shows)}" src="data:image/png;base64,{data}"></p>'
        case Finding(kind, claim, word, why):
            text = f"{_emphasised(claim)} <b>{word.capitalize()}</b><small>{html.escape(why)}.</small>"
            return f'<p class="verdict {kind}">{text}</p>'


def _cell(text: str) -> str:
    """Intervals stay on one line, and names with underscores need not, however narrow the screen."""
    return _emphasised(text).replace(" ± ", "&nbsp;±&nbsp;").replace("_", "_<wbr>")


def _emphasised(text: str) -> str:
    return re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html.escape(text))
