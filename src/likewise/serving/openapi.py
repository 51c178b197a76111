"""What /openapi.json says of requests and answers beside the schemas: bodies, parameters, and answers that are none."""

from typing import Annotated, Any

from fastapi import Query

from likewise.serving import schemas

_PICTURE = {"schema": {"type": "string", "format": "binary"}}
UPLOAD: dict[str, Any] = {
    "requestBody": {"required": True, "content": {"application/octet-stream": _PICTURE, "image/*": _PICTURE}}
}
MANY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": _PICTURE["schema"]}},
                    "required": ["images"],
                }
            }
        },
    }
}
EITHER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            **UPLOAD["requestBody"]["content"],
            "application/json": {"schema": schemas.Vector.model_json_schema()},
        },
    }
}

K = Annotated[int, Query(ge=1, description="number of hits; /api/about says how many are allowed")]
Where = Annotated[
    list[Annotated[str, Query(max_length=1000)]], Query(max_length=16, description="conditions, such as year >= 2000")
]
AsQuery = Annotated[bool, Query(description="the row that searches, where queries have an encoder of their own")]
Threshold = Annotated[
    float | None, Query(ge=0, le=1, allow_inf_nan=False, description="lowest similarity of a copy; default: chosen")
]


def problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of answers that are none."""
    return {code: {"model": schemas.Problem} for code in codes}


COMMON = problems(400, 401, 403, 408, 413, 415, 422, 500, 503)
