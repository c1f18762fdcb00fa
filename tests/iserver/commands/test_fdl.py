"""`iserver check`, `iserver fmt` and `iserver ddl` at the command line (protocol §13.7)."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result

from iserver.cli import main
from tests.iserver.fdl.programs import SHOP


def run(*arguments: str | Path, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.fdl"
    path.write_text(SHOP)
    return path


def test_check_says_nothing_about_a_good_program(shop: Path):
    assert (run("check", shop).exit_code, run("check", shop).output) == (0, "")


def test_check_prints_both_kinds_of_errors(tmp_path: Path):
    (tmp_path / "a.fdl").write_text("feature { }")
    (tmp_path / "b.fdl").write_text("feature F { args { a: Nope } }")
    broken, unknown = run("check", tmp_path / "a.fdl"), run("check", tmp_path / "b.fdl")
    assert (broken.exit_code, unknown.exit_code) == (1, 1)
    assert broken.output == f"{tmp_path}/a.fdl: line 1 char 8: unexpected '{{', expecting a name\n"
    assert unknown.output == f"File {tmp_path}/b.fdl, Line 1, Column 22: Unknown type: 'Nope'\n"


def test_check_accepts_a_warning(tmp_path: Path):
    (tmp_path / "a.fdl").write_text("feature F { args { class: Int } }")
    result = run("check", tmp_path / "a.fdl")
    assert result.exit_code == 0
    assert "warning: 'class' is a Java keyword" in result.output


def test_check_takes_several_files_as_one_program(shop: Path, tmp_path: Path):
    (tmp_path / "more.fdl").write_text("feature More { event Buy { import Revenue } }")
    assert run("check", shop, tmp_path / "more.fdl").exit_code == 0
    assert run("check", tmp_path / "more.fdl").exit_code == 1


def test_text_that_is_not_utf8_is_one_line(tmp_path: Path):
    (tmp_path / "a.fdl").write_bytes(b"feature A {}\n# \xe9\n")
    result = run("check", tmp_path / "a.fdl")
    assert result.exit_code == 1
    assert result.output == f"Error: {tmp_path}/a.fdl: line 2: not UTF-8 text (invalid continuation byte)\n"


def test_a_missing_file_is_a_usage_error(tmp_path: Path):
    assert run("check", tmp_path / "none.fdl").exit_code == 2


def test_fmt_changes_files_in_place_once(shop: Path):
    assert run("fmt", shop).exit_code == 0
    after = shop.read_text()
    assert after != SHOP
    assert run("fmt", shop).output == ""
    assert shop.read_text() == after


def test_fmt_check_changes_nothing(shop: Path):
    result = run("fmt", "--check", shop)
    assert (result.exit_code, result.output) == (1, f"would format {shop}\n")
    assert shop.read_text() == SHOP


def test_fmt_diff_shows_lines(shop: Path):
    result = run("fmt", "--diff", shop)
    assert result.exit_code == 0
    assert '-    plugin { tier: String! = "basic" }\n' in result.output
    assert '+    plugin {\n+        tier: String! = "basic"\n' in result.output
    assert shop.read_text() == SHOP


def test_fmt_formats_the_standard_input():
    assert run("fmt", "-", stdin="feature  A{ }").output == "feature A {}\n"


def test_fmt_keeps_a_broken_file(tmp_path: Path):
    path = tmp_path / "a.fdl"
    path.write_text("feature {")
    result = run("fmt", path)
    assert result.exit_code == 1
    assert "line 1 char 8" in result.output
    assert path.read_text() == "feature {"


@pytest.mark.parametrize("dialect", ["hive", "snowflake", "redshift", "duckdb"])
def test_ddl_prints_every_table(shop: Path, dialect: str):
    result = run("ddl", "--dialect", dialect, "--location", "s3://bucket/wh", shop)
    assert result.exit_code == 0
    statements = result.output.split("\n----\n")
    for table in ("experiment", "session", "rating_box", "product_info", "new_checkout", "search"):
        assert any(f"{table}" in statement.lower().split("\n")[0] for statement in statements)


def test_ddl_of_a_wrong_program_is_its_error(tmp_path: Path):
    (tmp_path / "a.fdl").write_text("feature {")
    result = run("ddl", "--dialect", "hive", tmp_path / "a.fdl")
    assert result.exit_code == 1
    assert "line 1 char 8" in result.output


def test_duckdb_cannot_read_orc(shop: Path):
    assert run("ddl", "--dialect", "duckdb", "--table-format", "orc", shop).exit_code == 2


def test_hive_ddl_of_the_running_example(shop: Path):
    output = run("ddl", "--dialect", "hive", "--location", "s3://bucket/wh/", shop).output
    assert (
        "create external table `search`(\n"
        "  `session_id` string comment 'The session it was shown in',\n"
        "  `device_id` string comment 'cookie based device id',\n"
    ) in output
    assert "  `results` array<struct<id:string,title:string,score:double>>,\n  `dwell` bigint,\n" in output
    assert "location 's3://bucket/wh/tables/search/';" in output
    assert "  `user_id_history` array<struct<start_time:timestamp,end_time:timestamp,value:string>> " in output


def test_snowflake_names_need_no_quotes_in_queries_unless_they_are_reserved(tmp_path: Path):
    (tmp_path / "a.fdl").write_text(
        "event Paid { order: Int } feature Group { args { product: String select: Int } event Buy { import Paid } }"
    )
    output = run("ddl", "--dialect", "snowflake", "--location", "stage", tmp_path / "a.fdl").output
    assert "create or replace external table session(\n  device_id varchar as (value:device_id::varchar)," in output
    assert 'create or replace external table "GROUP"(\n' in output
    assert "  product varchar as (value:product::varchar),\n" in output
    assert '  "SELECT" bigint as (value:"select"::bigint),\n' in output
    assert "create or replace view paid as\n" in output
    assert 'event.value:"order"::bigint as "ORDER"\nfrom "GROUP", table(flatten(input => buy)) event' in output


def test_snowflake_cuts_the_partition_out_of_the_file_name(shop: Path):
    output = run("ddl", "--dialect", "snowflake", "--location", "causal_stage", shop).output
    name = "tables/rating_box/ds=2023-11-14/hh=22/x.parquet"
    day, hour = name.index("2023") + 1, name.index("22/x") + 1
    assert (
        f"ds varchar as substr(metadata$filename, {day}, 10),\n  hh varchar as substr(metadata$filename, {hour}, 2)"
        in output
    )


def test_comments_with_quotes_do_not_break_the_statements(tmp_path: Path):
    (tmp_path / "a.fdl").write_text('"it\'s; a \\\\ test" feature F { args { "don\'t" select: Int } }')
    output = run("ddl", "--dialect", "duckdb", "--location", str(tmp_path), tmp_path / "a.fdl").output
    parsed = duckdb.extract_statements(output.replace("\n----\n", "\n"))
    assert any("it''s; a \\ test" in statement.query for statement in parsed)
