"""FDL texts that several tests use."""

from __future__ import annotations

from textwrap import dedent

from iserver.fdl import FdlError, Program, SourceFile, check, compile_program

SHOP = """\
namespace "com.example.shop"
session {
    args {
        "cookie based device id"
        deviceId: ID! @persistent_key
        arrivalId: ID @session_key
        userId: ID @mutable @split_key @per
        channel: String! = "direct" @per
    }
    plugin { tier: String! = "basic" }
    event AddToCart { import Revenue sku: ID! qty: Int! = 1 }
}
event Revenue { value: Float! }
enum Tone { FORMAL CASUAL }
type Doc { id: ID! title: String! score: Float }
"Collects a star rating for a product"
feature RatingBox {
    args { product: String! }
    output {
        callToAction: String! = "Rate this product!"
        actionButton: String! = "Send Review"
        tone: Tone! = CASUAL
    }
    event Rating { stars: Int! }
}
feature ProductInfo {}
feature NewCheckout @off_by_default { event Purchase { import Revenue } }
feature Search {
    args { query: String! page: Int = 0 }
    output {
        results: [Doc!] = [] @external(values: ["popularity", "distance"])
        dwell: Int! @elapsed(kind: "session_end")
    }
    plugin { ranker: String! = "none" }
    event Click { id: ID! }
}
"""
"""The running example of the protocol page (§1)."""


def program(text: str, name: str = "test.fdl") -> Program:
    """Compile one text."""
    return compile_program([SourceFile(name, dedent(text))])


def errors(text: str, name: str = "test.fdl") -> list[str]:
    """What makes a text wrong."""
    return [str(item) for item in check([SourceFile(name, dedent(text))]) if item.is_error]


def warnings(text: str, name: str = "test.fdl") -> list[str]:
    """What the compiler warns about in a text that it accepts."""
    diagnostics = check([SourceFile(name, dedent(text))])
    if any(item.is_error for item in diagnostics):
        raise FdlError(diagnostics)
    return [str(item) for item in diagnostics]
