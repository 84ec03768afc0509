"""The OpenAPI document as one page without scripts: nothing is loaded from anywhere."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark;--line:#8884}
body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.05rem;margin:2rem 0 .3rem;border-top:1px solid var(--line);padding-top:1rem}
code,pre{font:14px/1.5 ui-monospace,monospace}pre{overflow-x:auto;padding:.7rem;border:1px solid var(--line)}
table{border-collapse:collapse;width:100%}td{padding:.15rem 1rem .15rem 0;vertical-align:top}
td:first-child{width:8rem}td:nth-child(3){width:9rem}
"""


def api_page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document: each route with what it takes and how it ends, then the shapes of the answers."""
    routes = [
        _route(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    shapes = [_shape(name, each) for name, each in document.get("components", {}).get("schemas", {}).items()]
    info = document["info"]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(info["title"])}</title>'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style><h1>{escape(info['title'])} {escape(info['version'])}</h1>"
        f'<p>{escape(info["description"])} The same for programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        "<pre>curl --data-binary @picture.jpg -H 'Content-Type: image/jpeg' "
        "http://127.0.0.1:8080/v1/models/NAME/predict</pre>"
        f"{''.join(routes)}<h2>Shapes</h2>{''.join(shapes)}</html>"
    )


def _route(method: str, path: str, operation: dict[str, Any]) -> str:
    text = "".join(f"<p>{escape(part)}</p>" for part in operation.get("description", "").split("\n\n"))
    kinds = operation.get("requestBody", {}).get("content", {})
    takes = f"<p>Takes {', '.join(f'<code>{escape(kind)}</code>' for kind in kinds)}</p>" if kinds else ""
    rows = "".join(
        f"<tr><td><code>{escape(status)}</code><td>{escape(answer.get('description', ''))}<td>{_named(answer)}"
        for status, answer in operation["responses"].items()
    )
    return f"<h2><code>{method} {escape(path)}</code></h2>{text}{takes}<table>{rows}</table>"


def _shape(name: str, schema: dict[str, Any]) -> str:
    fields = "".join(
        f"<tr><td><code>{escape(key)}</code><td>{escape(_type(each))}"
        for key, each in schema.get("properties", {}).items()
    )
    about = f"<p>{escape(schema['description'])}</p>" if "description" in schema else ""
    return f'<h3 id="{escape(name)}"><code>{escape(name)}</code></h3>{about}<table>{fields}</table>'


def _named(answer: dict[str, Any]) -> str:
    for content in answer.get("content", {}).values():
        name = _last(content.get("schema", {}).get("$ref", ""))
        if name:
            return f'<a href="#{escape(name)}">{escape(name)}</a>'
    return ""


def _type(schema: dict[str, Any]) -> str:
    """A property's type in words.

    >>> _type({"type": "array", "items": {"$ref": "#/components/schemas/Heard"}})
    'list of Heard'
    """
    if "$ref" in schema:
        return _last(schema["$ref"])
    if "anyOf" in schema:
        return " or ".join(_type(each) for each in schema["anyOf"])
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return " or ".join(map(repr, schema["enum"]))
    if schema.get("type") == "array":
        items = schema.get("items")
        return f"list of {_type(items)}" if items else f"list of {schema.get('maxItems', 'any')} numbers"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"names with {_type(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _last(reference: str) -> str:
    return reference.rpartition("/")[2]
