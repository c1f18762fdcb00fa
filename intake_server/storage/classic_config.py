"""The classic configuration file (specification §5): a broken one is warned about and ignored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
import yaml

log = structlog.get_logger("intake_server.config")


def config_path(environment: Mapping[str, str]) -> Path:
    """Where the file is: ``$INTAKE_CONF_FILE``, else in ``$INTAKE_CONF_DIR``, else in ``~/.intake``."""
    if environment.get("INTAKE_CONF_FILE"):
        return Path(environment["INTAKE_CONF_FILE"]).expanduser()
    folder = environment.get("INTAKE_CONF_DIR") or "~/.intake"
    return Path(folder).expanduser() / "conf.yaml"


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a file; empty when there is none or it is broken."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        log.warning("the configuration file is ignored", path=str(path), reason=str(error))
        return {}
    if document is None:
        return {}
    if not isinstance(document, dict):
        log.warning("the configuration file is ignored", path=str(path), reason="it is not a map")
        return {}
    return {str(key): value for key, value in document.items()}
