"""The configuration document: what an environment's control plane says (specification §9.3).

This package knows the document's shape and nothing of FDL: `iserver.configuration` gives it meaning.
"""

from iserver.document.model import Document
from iserver.document.node import DocumentError, Node
from iserver.document.reader import read_document, read_rule

__all__ = ["Document", "DocumentError", "Node", "read_document", "read_rule"]
