"""Write docs/http-api.md: every request of the labelling page, from its OpenAPI description.

Usage:
python docs/http_api.py            # or: make reference
python docs/http_api.py --check    # exit status 1 where the page is not that of the code
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from dfal.labelling.web.api import openapi

PAGE = Path(__file__).resolve().parent / "http-api.md"
HEAD = """\
# HTTP API

The page of `dfal label` uses this API and nothing else. A running page describes it in OpenAPI at
`/api/openapi.json`; this page is made from that description by `make reference`.

A twin is an image after the smallest change that alters its predicted class. Bodies and replies are
JSON. An answer is on the disk when its reply comes, and sending it again is safe. Where the page is
open to others than your machine, requests need its token: in the cookie that `/?token=…` sets, or
as `Authorization: Bearer …` ([several people](team.md)).
"""


def _type(schema: dict[str, Any]) -> str:
    """Return the type of a value as JSON names it."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(choice) for choice in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if schema.get("type") == "array":
        items = [_type(item) for item in schema.get("prefixItems", [schema.get("items", {})])]
        return "list of " + ", ".join(items)
    if isinstance(values := schema.get("additionalProperties"), dict):
        return "object of " + _type(values)
    return str(schema.get("type", "any value"))


def _limits(schema: dict[str, Any]) -> str:
    """Return the least and largest value or length that is accepted, as a sentence."""
    for choice in schema.get("anyOf", [schema]):
        low, high = choice.get("minimum"), choice.get("maximum")
        if low is not None and high is not None:
            return f"{low:g} to {high:g}"
        if "maxLength" in choice:
            return f"{choice.get('minLength', 0)} to {choice['maxLength']} characters"
    return ""


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


def _attributes(schema: dict[str, Any]) -> dict[str, str]:
    """Return what the description of an object says of its fields."""
    block = re.search(r"Attributes:\n((?: .*\n?|\n)*)", schema.get("description", ""))
    found = re.findall(r"^    ([\w, ]+): (.*(?:\n     +.*)*)", block[1] if block else "", re.M)
    return {name: text for names, text in found for name in names.split(", ")}


def _object(name: str, schema: dict[str, Any]) -> str:
    """Return the section of an object: what it is, and a row for each field."""
    about = _cell(re.split(r"\n\n?Attributes:", schema.get("description", ""))[0])
    required, attributes = schema.get("required", []), _attributes(schema)
    rows = ["| field | type | |", "|---|---|---|"]
    for field, value in schema.get("properties", {}).items():
        text = _cell(value.get("description", attributes.get(field, "")).rstrip("."))
        notes = [text, _limits(value), "" if field in required else "may be left out"]
        rows.append(f"| `{field}` | {_type(value)} | {'; '.join(filter(None, notes))} |")
    return "\n\n".join(filter(None, [f"### {name}", about, "\n".join(rows)]))


def _reply(responses: dict[str, Any]) -> str:
    content = responses["200"].get("content", {})
    if "application/json" in content:
        return _type(content["application/json"]["schema"])
    return ", ".join(f"`{kind}`" for kind in content) or "a file"


def _requests(paths: dict[str, Any]) -> str:
    rows = ["| request | what it does | takes | replies |", "|---|---|---|---|"]
    for path, operations in paths.items():
        for method, operation in operations.items():
            about = re.split(r"\n\s*\n?Raises:", operation.get("description", ""))[0]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            takes = [_type(body["schema"])] if body else []
            takes += [
                f"`?{p['name']}`" for p in operation.get("parameters", []) if p["in"] == "query"
            ]
            cells = [
                f"`{method.upper()} {path}`",
                about,
                ", ".join(takes),
                _reply(operation["responses"]),
            ]
            rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(rows)


def _refusals(paths: dict[str, Any]) -> str:
    codes = {
        code: reply["description"]
        for operations in paths.values()
        for operation in operations.values()
        for code, reply in operation["responses"].items()
        if code.startswith(("4", "5"))
    }
    rows = [f"| {code} | {_cell(why)} |" for code, why in sorted(codes.items())]
    return "\n".join(["| status | |", "|---|---|", *rows])


def page() -> str:
    """Return the page as the code has it now."""
    document = openapi()
    paths, objects = document["paths"], document["components"]["schemas"]
    _, _, about = document["info"]["description"].partition("\n\n")
    parts = [
        HEAD.strip(),
        about.strip(),
        "## Requests",
        _requests(paths),
        "## Refusals",
        "The body is a [Refusal](#refusal): one sentence for the person in front of the page.",
        _refusals(paths),
        "## Bodies and replies",
        *(_object(name, schema) for name, schema in objects.items()),
    ]
    return "\n\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    made = page()
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made:
        return 0
    print(f"docs/{PAGE.name} {'is stale: run python docs/http_api.py' if check else 'written'}")
    if not check:
        PAGE.write_text(made, encoding="utf-8")
    return int(check)


if __name__ == "__main__":
    sys.exit(main())
