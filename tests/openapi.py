"""The OpenAPI description of the page's API, against which replies are checked."""

import functools
import re
from typing import Any


@functools.cache
def _description() -> dict[str, Any]:
    from dfal.labelling.web.api import openapi  # needs an extra

    return openapi()


@functools.cache
def _validator(method: str, template: str, status: int) -> Any:
    import jsonschema_rs

    replies = _description()["paths"][template][method]["responses"]
    schema = replies[str(status)]["content"]["application/json"]["schema"]
    whole = {**schema, "components": _description()["components"]}
    return jsonschema_rs.validator_for(whole)


def reply_faults(method: str, path: str, status: int, body: Any) -> list[str]:
    """Return how a reply differs from the description of its operation.

    Args:
        method: "get" or "post".
        path: of the request, without its query.
        status: of the reply.
        body: the reply's JSON.
    """
    for template in _description()["paths"]:
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            if str(status) not in _description()["paths"][template][method]["responses"]:
                return [f"{method} {path}: no status {status} is described"]
            faults = _validator(method, template, status).iter_errors(body)
            return [f"{method} {path}: {fault.message}" for fault in faults]
    return [f"{path} is not described"]
