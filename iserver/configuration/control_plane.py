"""The control plane as the published FDL compiler sees it: metadata, and a place to push FDL to (§9.2)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from iserver.configuration.compiled import Configuration, configure
from iserver.document import DocumentError, read_document
from iserver.errors import InvalidConfigurationError, MalformedError
from iserver.fdl import FdlError, SourceFile, compile_program
from iserver.fdl.model import FieldDefinition, JsonObject


def metadata(configuration: Configuration, location: str) -> JsonObject:
    """The answer to the compiler's one GraphQL query; control values become part of generated clients.

    Args:
        location: Where the warehouse is: without a location the compiler rejects `--hive`.
    """
    environment = configuration.environment
    program = configuration.definition.program
    described = {
        "name": environment.name,
        "id": environment.id,
        "isProduction": environment.is_production,
        "warehouseLocation": location,
    }
    features = []
    for plan in configuration.features.values():
        feature, controls = plan.definition, plan.controls
        fields = [
            {**_named(item), "controlValue": _control(controls, item)} for item in (*feature.args, *feature.outputs)
        ]
        events = [
            {**_named(event), "fields": [_named(item) for item in event.fields]} for event in feature.events.values()
        ]
        features.append({**_named(feature), "fields": fields, "events": events})
    return {
        "data": {
            "authedTenant": {
                "name": environment.name,
                "metrics": [],
                "environment": {**described, "fdl": "\n".join(source.text for source in program.sources)},
                "environments": [{**described, "warehouseTables": []}],
                "audiences": [],
                "features": features,
                "enums": [
                    {
                        "name": enum.name,
                        **_NOT_DEPRECATED,
                        "values": [{"name": v, **_NOT_DEPRECATED} for v in enum.values],
                    }
                    for enum in program.enums.values()
                ],
            }
        }
    }


_NOT_DEPRECATED = {"isDeprecated": False, "deprecatedReason": None, "deprecatedBy": None}


def _named(item: Any) -> JsonObject:
    reason = item.deprecated
    return {"name": item.name, "isDeprecated": reason is not None, "deprecatedReason": reason, "deprecatedBy": None}


def _control(controls: JsonObject, item: FieldDefinition) -> str | None:
    return orjson.dumps({"constant": controls[item.name]}).decode() if item.name in controls else None


def pushed_files(body: JsonObject) -> tuple[SourceFile, ...]:
    """The files of a push.

    Raises:
        MalformedError: It has none, or they have the wrong shape.
    """
    files = body.get("files")
    if not isinstance(files, list) or not files:
        raise MalformedError("malformed request: expected a list of files for 'files'")
    sources = []
    for number, file in enumerate(files):
        name, content = (file.get("name"), file.get("content")) if isinstance(file, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(content, str):
            raise MalformedError(f"malformed request: expected strings for 'files[{number}].name' and '.content'")
        sources.append(SourceFile(name, content))
    return tuple(sources)


def with_fdl(document: bytes, files: Sequence[SourceFile], *, lenient: bool = False) -> bytes:
    """A configuration document with other FDL and a revision of its own.

    Raises:
        InvalidConfigurationError: The FDL is wrong, or the rest of the document does not fit it.
    """
    try:
        changed = dict(read_document(document).raw)
        changed["fdl"] = [{"name": file.name, "content": file.text} for file in files]
        changed["revision"] = _revision(files, changed)
        text = orjson.dumps(changed, option=orjson.OPT_INDENT_2)
        configure(read_document(text), compile_program(files), lenient=lenient)
    except (DocumentError, FdlError) as error:
        raise InvalidConfigurationError(str(error)) from error
    return text


def _revision(files: Iterable[SourceFile], document: JsonObject) -> str:
    content = orjson.dumps([[[file.name, file.text] for file in files], document], option=orjson.OPT_SORT_KEYS)
    return f"push-{hashlib.sha256(content).hexdigest()[:12]}"
