"""Channel files from the source text of csp-gateway channels, which is never executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.commands.importers.draft import Draft
from gateway.commands.importers.python_source import draft_of_source
from tests.gateway.commands.test_import_openapi import run
from tests.gateway.conftest import declare

HEAD = """
from __future__ import annotations
raise SystemExit("this text is not to be executed")
from csp_gateway import GatewayChannels, GatewayStruct, State, Stage
"""


def drafted(folder: Path, text: str, name: str | None = None) -> Draft:
    """The draft of channels in a source text; its file loads."""
    file = folder / "desk.py"
    file.write_text(HEAD + text)
    draft = draft_of_source(file, name)
    declare(draft.text())
    return draft


def field_of(folder: Path, declaration: str, more: str = "") -> Any:
    """How the file declares a field ``x``."""
    quote = f"{more}\nclass Quote(GatewayStruct):\n    x: {declaration}\n"
    text = f"{quote}class C(GatewayChannels):\n    q: ts[Quote] = None\n"
    return yaml.safe_load(drafted(folder, text).text())["structs"]["Quote"]["fields"]["x"]


@pytest.mark.parametrize(
    ("declaration", "declared"),
    [
        ("int", "int"),
        ("int = 3", "int = 3"),
        ("float = -1.5", "float = -1.5"),
        ("Optional[int] = None", "int? = null"),
        ("int | None = None", "int? = null"),
        ("Union[int, str] = 'a'", 'int | str = "a"'),
        ("'list[str]' = []", "list[str] = []"),
        ("Dict[str, List[float]] = {}", "dict[str, list[float]] = {}"),
        ("set[str] = set()", "set[str] = []"),
        ("Literal['a', 'b'] = 'a'", {"literal": ["a", "b"], "default": "a"}),
        ("int = Field(default=0, ge=0)", {"type": "int", "ge": 0, "default": 0}),
        ("list[int] = Field(default_factory=list)", "list[int] = []"),
        ("Annotated[float, Field(gt=0, lt=1e6)] = 1.0", {"type": "float", "gt": 0, "lt": 1000000.0, "default": 1.0}),
        ("Annotated[str, MinLen(2)]", {"type": "str", "min_length": 2}),
        ("Numpy1DArray[float] = np.array([1, 2])", "float[] = [1, 2]"),
        ("datetime = datetime.now(UTC)", {"type": "datetime", "default_now": "start"}),
        ("date = Field(default_factory=lambda: datetime.now(UTC).date())", {"type": "date", "default_now": "start"}),
        ("timedelta = timedelta(minutes=1)", "timedelta = 60.0"),
        ("date = date(2024, 1, 2)", 'date = "2024-01-02"'),
        ("Any = None", "any = null"),
        ("pd.DataFrame = None", "any = null"),
    ],
)
def test_a_declaration_becomes_a_type(tmp_path: Path, declaration: str, declared: Any):
    assert field_of(tmp_path, declaration) == declared


@pytest.mark.parametrize(
    ("declaration", "more", "declared"),
    [
        ("Side = Side.SELL", "class Side(Enum):\n    BUY = 'b'\n    SELL = 's'", 'Side = "s"'),
        ("Level = Level.HIGH", "class Level(csp.Enum):\n    LOW = 1\n    HIGH = auto()", 'Level = "HIGH"'),
        ("Terms = Terms(days=3)", "class Terms(BaseModel):\n    days: int = 2", 'Terms = {"days": 3}'),
        ("list[Leg] = []", "class Leg(GatewayStruct):\n    other: 'Optional[Leg]' = None", "list[Leg] = []"),
    ],
)
def test_classes_of_the_file_are_declared_by_name(tmp_path: Path, declaration: str, more: str, declared: str):
    assert field_of(tmp_path, declaration, more) == declared


def test_channels_with_what_modules_do_to_them(tmp_path: Path):
    draft = drafted(
        tmp_path,
        """
class Base(GatewayStruct):
    symbol: str

class Quote(Base):
    price: float = 0.0

Quote.omit_from_lookup()

class Venue(Enum):
    NYSE = 1
    LSE = 2

class Common(GatewayChannels):
    about: dict[str, str] = {"name": "Desk"}
    controls: ts[Controls] = None

class Desk(Common):
    quotes: Annotated[ts[Quote], State(("symbol",)), State("id", alias="all_quotes"), Stage()] = None
    many: ts[List[Quote]] = None
    venues: dict[Venue, ts[Quote]] = None
    desks: dict[str, ts[list[Quote]]] = None
    others: Dict[str, ts[Quote]] = None

class Feed(GatewayModule):
    def dynamic_keys(self):
        return {Desk.desks: ["paris", "new york"]}

    def connect(self, channels: Desk):
        channels.add_send_channel(Desk.quotes)
        for venue in Venue:
            channels.add_send_channel(Desk.venues, venue)
        channels.set_state("many", ("symbol", "price"))
        channels.set_stage(Desk.many)
""",
    )
    value = yaml.safe_load(draft.text())
    assert value["channels"] == {
        "quotes": {
            "type": "Quote",
            "stage": True,
            "state": [{"keyby": ["symbol"]}, {"keyby": ["id"], "alias": "all_quotes"}],
            "send": True,
        },
        "many": {"type": "Quote", "list": True, "state": {"keyby": ["symbol", "price"]}, "stage": True},
        "venues": {"type": "Quote", "keys": "Venue", "send": True},
        "desks": {"type": "Quote", "list": True, "keys": ["paris", "new york"]},
    }
    assert value["structs"]["Quote"] == {"lookup": False, "fields": {"symbol": "str", "price": "float = 0.0"}}
    assert value["fields"] == {"about": {"name": "Desk"}}
    assert "  # others: {type: Quote, keys: [KEY]}\n" in draft.text()


def test_structs_are_followed_into_the_files_beside(tmp_path: Path):
    (tmp_path / "structs.py").write_text("class Quote(GatewayStruct):\n    price: float = 0.0\n")
    (tmp_path / "kinds.py").write_text("class Side(Enum):\n    BUY = 1\n")
    draft = drafted(
        tmp_path,
        "from .structs import Quote\nfrom desk.kinds import Side\n"
        "class Trade(Quote):\n    side: Side\nclass C(GatewayChannels):\n    trades: ts[Trade] = None\n",
    )
    assert yaml.safe_load(draft.text())["structs"]["Trade"]["fields"] == {"price": "float = 0.0", "side": "Side"}


def test_what_is_python_and_cannot_be_carried_over_is_named_where_it_is(tmp_path: Path):
    draft = drafted(
        tmp_path,
        """
class Quote(GatewayStruct, Elsewhere):
    x: Annotated[int, AfterValidator(check)]
    y: float = compute()
    z: Matrix
    w: Annotated[str, Field(pattern="(?=a)b")] = "x"

    @field_validator("x")
    def positive(cls, value): ...

class C(GatewayChannels):
    quotes: ts[Quote] = None
    foreign: ts[Unknown] = None
    server: Any = Field(default_factory=Server)
""",
    )
    validators = "its validators are Python: a module adds them with add_validator"
    quote = ("structs", "Quote")
    assert set(draft.notes[quote]) == {"the source of Elsewhere is not here: its members are missing", validators}
    assert draft.notes[*quote, "x"] == [validators]
    assert draft.notes[*quote, "y"] == ["the default compute() is no plain value"]
    assert draft.notes[*quote, "z"] == ["Matrix is no type that is known here: any value"]
    assert draft.notes[*quote, "w"] == ["the pattern '(?=a)b' is none of those that are known here"]
    assert "'foreign' is left out: the source of Unknown is not here" in draft.notes["channels",]
    assert "'server' is neither a channel nor a plain value: left out." in draft.notes[()]
    assert "      # the default compute() is no plain value\n      y: float\n" in draft.text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("import-python", "desk.py"), "say which, as"),
        (("import-python", "desk.py:Nothing"), "there is no class Nothing; it has A, B"),
        (("import-python", "missing.py"), "No such file"),
        (("import-python", "broken.py"), "broken.py:1: "),
        (("import-python", "nonsense"), "is neither MODULE:CLASS nor FILE.py[:CLASS]"),
    ],
)
async def test_what_cannot_be_read_is_said(tmp_path: Path, arguments: tuple[str, ...], complaint: str):
    classes = "class Quote(GatewayStruct):\n    x: int\n"
    channels = "class {}(GatewayChannels):\n    quotes: ts[Quote] = None\n"
    (tmp_path / "desk.py").write_text(classes + channels.format("A") + channels.format("B"))
    (tmp_path / "broken.py").write_text("class (")
    name = arguments[1]
    source = str(tmp_path / name) if ".py" in name else name
    code, out, err = await run(arguments[0], source)
    assert code != 0 and out == ""
    assert complaint in err and "Traceback" not in err
