"""The configuration document: what an environment's control plane says (§9.3).

`node` is a JSON value that knows its path, `reader` makes the plain data of `model` from it, `patterns` compiles
regular expressions. It knows the document's shape and nothing of FDL: `iserver.configuration.compiled` resolves
references and gives it meaning. Start with `read_document`.
"""

from iserver.document.model import Document
from iserver.document.node import DocumentError, Node
from iserver.document.reader import read_document, read_rule

__all__ = ["Document", "DocumentError", "Node", "read_document", "read_rule"]
