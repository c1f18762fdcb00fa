"""Channel files that several tests use."""

TYPES = """
enums:
  Number: {members: {ONE: 1, TWO: 2, THREE: 3}}
  Colour: {members: {RED: red, GREEN: green}}
  Side: {members: {BUY: 1, SELL: 2}, wire: name}
structs:
  Inner: {fields: {a: int, b: str = ""}}
  Plain: {implicit: false, fields: {z: int = 12}}
  Everything:
    fields:
      int_: int
      float_: float
      str_: str
      bool_: bool
      datetime_: datetime
      date_: date
      time_: time
      timedelta_: timedelta
      number: Number
      colour: Colour
      side: Side
      list_: "list[int]"
      set_: "set[int]"
      dict_: "dict[str, int]"
      array: "float[]"
      matrix: "float[][]"
      inner: Inner
      plain: Plain
      literal: {literal: [x, y]}
      positive: {type: float, gt: 0}
      any_: any
      bytes_: bytes
      union: int | str
      with_default: int = 7
      nullable: int? = null
channels:
  all: {type: Everything, send: true}
"""

DEMO_TYPES = """
enums:
  ExampleEnum: {members: {A: 1, B: 2, C: 3}}
structs:
  Nested: {implicit: false, fields: {z: int = 12}}
  Example:
    python_type: shop.Example
    fields:
      x: {type: int, ge: 0, message: "value must be non-negative."}
      y: str = ""
      nested: {type: Nested, default: {}}
channels:
  example: {type: Example, send: true, stage: true, state: {keyby: [id]}}
  example_list: {type: Example, list: true, send: true}
  never_ticks: {type: Example}
  by_x: {type: Example, send: true, state: {keyby: [x]}}
  basket: {type: Example, keys: ExampleEnum, send: true, state: {keyby: [x], alias: of_basket}}
  words: {type: Example, keys: [a, "b c", d/e], send: true}
  lists: {type: Example, keys: [p, q], list: true, send: true}
fields:
  metadata: {name: Demo}
"""
