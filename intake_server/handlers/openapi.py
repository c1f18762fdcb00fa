"""What the JSON API and the data offer, as an OpenAPI document."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from intake_server.export.formats import FORMATS

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "integer", "minimum": 0}
_NAMES: dict[str, Any] = {"type": "array", "items": _TEXT}
_FREE: dict[str, Any] = {"type": "object", "additionalProperties": True}
_PATH = "Names of catalogs and of the entry with slashes between them; a slash in a name is written %2F."


def document() -> dict[str, Any]:
    """The OpenAPI document; its addresses are relative to where it is."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Catalog server",
            "version": version("entrepot"),
            "description": "List, search and describe entries, and read their data in the format you like. "
            "Clients of the classic protocol use /v1/info and /v1/source.",
        },
        "servers": [{"url": ".."}],
        "security": [{}, {"bearer": []}, {"secret": []}],
        "paths": {
            "/api/catalog": {"get": _catalog([])},
            "/api/catalog/{catalog}": {"get": _catalog([_in_path("catalog")])},
            "/api/entry/{entry}": {"get": _entry()},
            "/data/{entry}": {"get": _data()},
            "/catalog.yml": {"get": _file()},
        },
        "components": {
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "secret": {"type": "apiKey", "in": "header", "name": "intake-secret"},
            },
            "schemas": {"Catalog": _object(_CATALOG), "Entry": _object(_ENTRY), "Error": _ERROR},
        },
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    return {**schema, "type": [schema["type"], "null"]}


_SUMMARY: dict[str, Any] = {
    "name": _TEXT,
    "path": _NAMES,
    "is_catalog": {"type": "boolean"},
    "container": _nullable(_TEXT),
    "driver": {},
    "description": _TEXT,
    "direct_access": {"enum": ["forbid", "allow", "force"]},
}
_CATALOG: dict[str, Any] = {
    "path": _NAMES,
    "name": _TEXT,
    "description": _TEXT,
    "metadata": _FREE,
    "length": {**_NUMBER, "description": "How many entries the caller may see in it."},
    "offset": _NUMBER,
    "entries": {"type": "array", "items": _object(_SUMMARY)},
}
_ENTRY: dict[str, Any] = {
    **_SUMMARY,
    "plugin": {},
    "metadata": _FREE,
    "args": {**_FREE, "description": "Arguments of the driver, where the server shows them; secrets are masked."},
    "user_parameters": {"type": "array", "items": _FREE},
    "dtype": {"description": "With open: a map from columns to types, or the type of an array."},
    "shape": {"description": "With open: lengths, null where unknown."},
    "npartitions": {**_NUMBER, "description": "With open."},
    "chunks": {"description": "With open, of arrays: the lengths of the blocks along every axis."},
    "formats": {"type": "array", "items": _FREE, "description": "With open: the formats of /data."},
    "variables": {
        "type": "array",
        "items": _FREE,
        "description": "With open, of data sets: every variable with dimensions, type, shape and formats of /data.",
    },
}
_ERROR: dict[str, Any] = _object({"error": _object({"code": _TEXT, "reason": _TEXT})})


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": _TEXT, "description": _PATH}


def _query(name: str, description: str, schema: dict[str, Any], *, is_repeated: bool = False) -> dict[str, Any]:
    shown = {"type": "array", "items": schema} if is_repeated else schema
    return {"name": name, "in": "query", "schema": shown, "description": description}


def _answers(**good: Any) -> dict[str, Any]:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    bad = {
        "400": "A parameter does not fit.",
        "403": "Access forbidden.",
        "404": "No such entry.",
        "503": "Not now; see Retry-After.",
    }
    return {
        **{status.removeprefix("_"): answer for status, answer in good.items()},
        **{status: {"description": text, "content": error} for status, text in bad.items()},
    }


def _json(schema: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }


def _catalog(path: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "summary": "List a catalog, or search it",
        "parameters": [
            *path,
            _query("offset", "How many entries to pass over.", {**_NUMBER, "default": 0}),
            _query("limit", "The most entries to list, at most 1000.", {**_NUMBER, "default": 100}),
            _query("search", "Only entries in whose description one of these words occurs.", _TEXT),
            _query("depth", "How many levels of catalogs are searched.", {"type": "integer", "default": 2}),
        ],
        "responses": _answers(_200=_json("Catalog", "The catalog and a page of its entries.")),
    }


def _entry() -> dict[str, Any]:
    return {
        "summary": "Describe an entry",
        "parameters": [
            _in_path("entry"),
            _query("open", "Open it, and tell its schema and formats too.", {"type": "boolean", "default": False}),
            _own(),
        ],
        "responses": _answers(_200=_json("Entry", "The entry.")),
    }


def _file() -> dict[str, Any]:
    return {
        "summary": "A catalog as a catalog file",
        "description": "For programs that read such files, but do not speak the classic protocol.",
        "parameters": [_query("catalog", "Names of catalogs with slashes between them; the root without.", _TEXT)],
        "responses": _answers(_200={"description": "The file.", "content": {"application/yaml": {}}}),
    }


def _own() -> dict[str, Any]:
    return {
        "name": "parameters",
        "in": "query",
        "style": "form",
        "explode": True,
        "schema": {**_FREE, "additionalProperties": _TEXT},
        "description": "The entry's own parameters by their names; as p.NAME where the name has another meaning here.",
    }


def _data() -> dict[str, Any]:
    content: dict[str, Any] = {form.media_type: {} for form in FORMATS}
    tags = {"ETag": {"schema": _TEXT}, "Accept-Ranges": {"schema": _TEXT}}
    return {
        "summary": "Read the data of an entry",
        "description": "The format is named by the suffix of the address (x.parquet), by ?format=, or by Accept. "
        f"There are {', '.join(form.name for form in FORMATS)}; which of them, depends on the data.",
        "parameters": [
            _in_path("entry"),
            _query("format", "The format.", {"enum": [form.name for form in FORMATS]}),
            _query("columns", "Columns of a frame, with commas between them.", _TEXT, is_repeated=True),
            _query("rows", "Rows of a frame or elements of a list: START:STOP.", _TEXT),
            _query(
                "where",
                "A condition on the rows of a frame: column>=5, column in a,b, column is null. All must be met.",
                _TEXT,
                is_repeated=True,
            ),
            _query("variable", "The variable of a data set.", _TEXT),
            _query("slice", "A slice of an array or a variable, an axis after the other: 0:10,::2,5.", _TEXT),
            _own(),
        ],
        "responses": {
            **_answers(_200={"description": "The data.", "headers": tags, "content": content}),
            "206": {"description": "The part named by Range, of formats with Accept-Ranges: bytes."},
            "304": {"description": "The copy named by If-None-Match is still good."},
            "406": _json("Error", "The data cannot be had in this format."),
            "413": _json("Error", "The export is too large."),
            "416": _json("Error", "The range begins behind the end."),
        },
    }
