"""The parts of the OpenAPI document that are the same for every gateway."""

from __future__ import annotations

from gateway.schema.json_schema import Schema

ERROR_404: Schema = {
    "type": "object",
    "title": "Error404",
    "properties": {"detail": {"type": "string", "title": "Detail", "default": ""}},
}
VALIDATION_ERROR: Schema = {
    "type": "object",
    "title": "ValidationError",
    "required": ["loc", "msg", "type"],
    "properties": {
        "loc": {
            "type": "array",
            "title": "Location",
            "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        },
        "msg": {"type": "string", "title": "Message"},
        "type": {"type": "string", "title": "Error Type"},
        "input": {"title": "Input"},
        "ctx": {"type": "object", "title": "Context"},
    },
}
HTTP_VALIDATION_ERROR: Schema = {
    "type": "object",
    "title": "HTTPValidationError",
    "properties": {
        "detail": {"type": "array", "title": "Detail", "items": {"$ref": "#/components/schemas/ValidationError"}}
    },
}
STRINGS: Schema = {"type": "array", "items": {"type": "string"}}
STAGED = {"POST": "Add", "DELETE": "Remove", "PATCH": "Release", "GET": "List", "PUT": "Lookup"}
FILTERS = """States are filtered with `query`, a JSON object. All filters must hold; each compares a field with
a value, a time or another field:

```
# x == 5
{base}?query={{"filters":[{{"attr":"x","by":{{"value":5,"where":"=="}}}}]}}

# x < 10
{base}?query={{"filters":[{{"attr":"x","by":{{"value":10,"where":"<"}}}}]}}

# timestamp < "2023-03-30T14:45:26.394000"
{base}?query={{"filters":[{{"attr":"timestamp","by":{{"when":"2023-03-30T14:45:26.394000","where":"<"}}}}]}}

# id < y
{base}?query={{"filters":[{{"attr":"id","by":{{"attr":"y","where":"<"}}}}]}}

# 30 <= x < 50
{base}?query={{"filters":[{{"attr":"x","by":{{"value":50,"where":"<"}}}},{{"attr":"x","by":{{"value":30,"where":">="}}}}]}}
```

Also understood: `"sort":[["x","desc"]]`, `"limit"`, `"offset"`, `"fields":["x","y"]`, and the operators
`in`, `is_null`, `not_null`."""
