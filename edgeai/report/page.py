"""One HTML page without a single request: style, charts and pictures inside, light and dark, phone and desk."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from edgeai.errors import EdgeError
from edgeai.report.html import Html, cards, fold, pairs, paragraph, picture, section, side_by_side, table
from edgeai.report.svg import bar_chart, dot_chart
from edgeai.whole_file import whole_file

__all__ = [
    "Html",
    "bar_chart",
    "cards",
    "dot_chart",
    "fold",
    "pairs",
    "paragraph",
    "picture",
    "side_by_side",
    "table",
    "write_page",
]

MAX_PAGE_BYTES = 3 << 20
_STYLE = """
:root{color-scheme:light dark;--back:#f6f7f9;--sheet:#fff;--ink:#1b2430;--soft:#5d6b7c;--rule:#e3e7ec;--accent:#1f6feb;
--dull:#b6bfca}
@media(prefers-color-scheme:dark){:root{--back:#0e1319;--sheet:#171e27;--ink:#e6ebf1;--soft:#94a3b5;--rule:#2a3441;
--accent:#6ea8ff;--dull:#4a5766}}
*{box-sizing:border-box}
body{margin:0;background:var(--back);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1120px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.1rem;margin:0 0 14px}
header p{margin:0;color:var(--soft);overflow-wrap:anywhere}
section{background:var(--sheet);border:1px solid var(--rule);border-radius:12px;padding:20px;margin-top:20px}
section p{margin:0 0 12px;max-width:70ch}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px}
.card{border:1px solid var(--rule);border-radius:10px;padding:12px 14px;display:flex;flex-direction:column}
.card span,.card small{color:var(--soft);font-size:.82rem}
.card b{font-size:1.45rem;font-variant-numeric:tabular-nums;line-height:1.35;overflow-wrap:anywhere}
.columns{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,300px),1fr));gap:24px}
.cards+.columns,.columns+.scroll,.scroll+p,p+.columns,.scroll+.columns,dl+details,.scroll+details,figure+p,.columns+p{margin-top:18px}
figure{margin:0;min-width:0}
figcaption{color:var(--soft);font-size:.85rem;margin:0 0 6px}
img{display:block;max-width:100%;height:auto;border-radius:8px;margin-bottom:6px}
svg{display:block;width:100%;max-width:480px;height:auto}
svg text{font:12px system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;fill:var(--ink)}
svg .label{fill:var(--soft)}
.bar,.dot{fill:var(--accent)}.muted{fill:var(--dull)}
.whisker{stroke:var(--accent);stroke-width:2;opacity:.55}.grid{stroke:var(--rule)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:7px 12px 7px 0;border-bottom:1px solid var(--rule);white-space:nowrap;vertical-align:top}
th{color:var(--soft);font-weight:600;font-size:.8rem}
tbody tr:last-child td{border-bottom:0}
.n{text-align:right}.dim td{color:var(--soft)}
dl{display:grid;grid-template-columns:minmax(90px,max-content) 1fr;gap:4px 18px;margin:0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere;min-width:0}
details{margin-top:8px}summary{cursor:pointer;color:var(--accent)}
pre{overflow-x:auto;font:.82rem/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;margin:12px 0 0}
footer{color:var(--soft);font-size:.82rem;margin-top:24px}
"""


def write_page(
    path: Path,
    title: str,
    sections: Sequence[tuple[str, Sequence[str]]],
    *,
    subtitle: str = "",
    footer: str = "",
) -> Path:
    """Write the page, its folder where it is missing. sections: (heading, parts made with the functions here).

    Raises EdgeError where it would exceed 3 MiB or cannot be written; an older page then stays as it was.
    """
    body = "".join(section(heading, parts) for heading, parts in sections)
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>{body}"
        f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )
    data = text.encode()
    if len(data) > MAX_PAGE_BYTES:
        raise EdgeError(
            f"the page {path} would have {len(data):,} bytes, at most {MAX_PAGE_BYTES:,} are written"
        )
    with whole_file(path, what="the page") as part:
        part.write_bytes(data)
    return path
