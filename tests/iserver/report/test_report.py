"""`iserver report` over a warehouse with a known experiment (protocol §12, §15)."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result
from msgspec import structs

from iserver.commands.report import report_command
from iserver.report.drawing import Chart, Series, draw, ticks
from iserver.report.model import Metric, ReportError
from iserver.report.page import report_page
from iserver.report.results import examine
from iserver.report.text import report_text, verdicts
from iserver.report.warehouse_tables import ReportWarehouse
from tests.iserver.report.experiments import DAYS, NOW, play, session, visitors
from tests.iserver.report.experiments import START_MS as START

VISITORS = 6_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A warehouse in which Blue gets 8 per cent more ratings, and baskets worth 10 more."""
    return play(tmp_path_factory.mktemp("shop"), visitors(VISITORS, lift=0.08))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(report_command, arguments)


def result_of(location: str, metric: str | None, alpha: float = 0.05):
    warehouse = ReportWarehouse(location)
    parsed = Metric.parse(metric) if metric else None
    return examine(warehouse, warehouse.experiments()[0], parsed, alpha=alpha, tightest_at=5_000)


def test_experiments_come_from_the_metadata_tables(shop: str):
    first, second = ReportWarehouse(shop).experiments()
    assert (first.id, first.name, first.features) == ("exp-copy", "Button copy", ("RatingBox",))
    assert [(variant.name, variant.weight) for variant in first.variants] == [("control", 50), ("Blue", 50)]
    assert [(variant.name, variant.weight) for variant in second.variants] == [("control", 1), ("New", 3)]


def test_a_visitor_counts_once_whatever_the_number_of_sessions(shop: str):
    result = result_of(shop, None)
    assert sum(result.exposure.counts.values()) == VISITORS
    assert result.exposure.mixed == 0
    assert not result.ratio_is_wrong
    assert sum(sample.count for sample in result.days[-1].samples.values()) == VISITORS


def test_a_rate_is_found_with_its_effect(shop: str):
    last = result_of(shop, "event:Rating").days[-1]
    interval = last.intervals["v-blue"]
    assert last.samples["c-copy"].mean == pytest.approx(0.20, abs=0.025)
    assert last.samples["v-blue"].mean == pytest.approx(0.28, abs=0.025)
    assert interval.low < 0.08 < interval.high
    assert interval.excludes_zero


def test_a_mean_sums_a_field_over_the_events_after_the_exposure(shop: str):
    last = result_of(shop, "event:AddToCart.value").days[-1]
    assert last.samples["c-copy"].mean == pytest.approx(0.3 * 10, abs=0.4)
    assert last.samples["v-blue"].mean == pytest.approx(0.3 * 20, abs=0.8)
    interval = last.intervals["v-blue"]
    assert interval.low < 3.0 < interval.high


def test_an_abstract_event_stands_for_all_that_import_it(shop: str):
    assert result_of(shop, "event:Revenue.value").days == result_of(shop, "event:AddToCart.value").days


def test_samples_by_day_are_those_of_a_count_by_hand(shop: str, tmp_path: Path):
    sessions = list(visitors(300, lift=0.1))
    result = result_of(play(tmp_path, iter(sessions)), "event:Rating")
    assert [day.day for day in result.days] == [date(2023, 11, 15 + number) for number in range(DAYS + 1)]
    first_seen: dict[str, float] = {}
    rated: dict[str, int] = {}
    blue = {item.args["userId"] for item in sessions if "v-blue" in item.variants}
    for day in result.days:
        end_ms = START + (result.days.index(day) + 1) * 86_400_000
        for item in sessions:
            if item.start_ms < end_ms:
                user = str(item.args["userId"])
                first_seen.setdefault(user, item.start_ms)
                rated[user] = max(rated.get(user, 0), len(item.records[0].events))
        expected = np.array([rated[user] for user in first_seen if user in blue])
        assert day.samples["v-blue"].count == len(expected)
        assert day.samples["v-blue"].total == expected.sum()
        assert day.samples["v-blue"].squares == (expected**2).sum()


def test_squares_of_growing_sums_are_right(tmp_path: Path):
    visits = [
        structs.replace(
            session(1, visit, START + visit * 86_400_000, True, False, float(visit)),
            session_id=f"s{visit}",
            events=(session(1, 2, START + visit * 86_400_000, True, False, float(visit)).events),
        )
        for visit in (1, 2, 4)
    ]
    days = result_of(play(tmp_path, iter(visits)), "event:AddToCart.value").days
    assert [(day.samples["v-blue"].total, day.samples["v-blue"].squares) for day in days] == [(1, 1), (3, 9), (7, 49)]


def test_visitors_who_saw_both_variants_are_left_out(tmp_path: Path):
    changed = session(0, 2, START + 86_400_000, True, False, None)
    sessions = [session(0, 1, START, False, True, None), changed, session(1, 1, START, False, True, None)]
    result = result_of(play(tmp_path, iter(sessions)), "event:Rating")
    assert (result.exposure.mixed, result.exposure.counts) == (1, {"c-copy": 1, "v-blue": 0})
    assert result.days[-1].samples["c-copy"].total == 1


def test_a_wrong_split_is_called_wrong(tmp_path: Path):
    location = play(tmp_path, visitors(2_000, lift=0, share=0.58))
    assert result_of(location, None).ratio_is_wrong
    assert "NOT AS CONFIGURED" in run("--warehouse", location).output


def test_delta_tables_are_read_as_well(tmp_path: Path):
    plain = play(tmp_path / "plain", visitors(300, lift=0.1))
    delta = play(tmp_path / "delta", visitors(300, lift=0.1), "delta")
    assert result_of(delta, "event:Rating").days == result_of(plain, "event:Rating").days


# --- the command ----------------------------------------------------------------------------------


def test_the_text_says_what_was_found(shop: str):
    output = run("--warehouse", shop, "--experiment", "exp-copy", "--metric", "event:Rating").output
    assert output.startswith("Button copy (exp-copy), published\n  features: RatingBox\n")
    assert "  sample ratio: as configured (always-valid p = " in output
    assert "event:Rating, share of visitors with it\n" in output
    assert "established" in output
    assert "intervals: 95 % for all of them together, valid at every look" in output
    assert "  2023-11-15  1000 " in output


def test_all_experiments_are_reported_without_a_name(shop: str):
    output = run("--warehouse", shop).output
    assert "Button copy" in output
    assert "nobody was exposed yet" in output


def test_an_experiment_is_found_by_its_name(shop: str):
    assert "Nobody's" not in run("--warehouse", shop, "--experiment", "Button copy").output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--experiment", "none"], "the warehouse knows no experiment 'none'"),
        (["--metric", "rating"], "unknown metric 'rating': expected event:NAME or event:NAME.FIELD"),
        (["--metric", "event:Nope"], "no table has the event Nope (events: add_to_cart, click, purchase, rating)"),
        (["--metric", "event:Rating.nope"], "event:Rating: rating_box.rating has no field nope (its fields: stars)"),
    ],
)
def test_a_question_without_answer_is_one_line(shop: str, arguments: list[str], message: str):
    result = run("--warehouse", shop, *arguments)
    assert result.exit_code == 1
    assert result.output == f"Error: {message.replace('event:Rating: ', 'event:Rating.nope: ')}\n"


def test_a_folder_that_is_no_warehouse_is_one_line(tmp_path: Path):
    result = run("--warehouse", str(tmp_path))
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: no warehouse at {tmp_path}: ")


def test_orc_tables_cannot_be_read(tmp_path: Path):
    play(tmp_path, visitors(10, lift=0), "orc")
    with pytest.raises(ReportError, match="these are ORC"):
        ReportWarehouse(str(tmp_path))


# --- the page -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def test_the_page_draws_every_experiment(shop: str, tmp_path: Path):
    path = tmp_path / "report.html"
    result = run("--warehouse", shop, "--metric", "event:Rating", "--html", str(path))
    assert result.exit_code == 0
    page = Page(path.read_text())
    assert page.open == []
    assert page.tags.count("svg") == 2
    assert page.tags.count("polygon") == 1
    assert "script" not in page.tags
    assert "established" in page.words


def test_every_metric_is_reported_once_below_the_exposures(shop: str, tmp_path: Path):
    path = tmp_path / "report.html"
    metrics = ["--metric", "event:Rating", "--metric", "event:AddToCart.value", "--metric", "event:Rating"]
    output = run("--warehouse", shop, "--experiment", "exp-copy", *metrics, "--html", str(path)).output
    page = Page(path.read_text())
    for words in (output, page.words):
        assert words.count("event:Rating, share of visitors with it") == 1
        assert words.count("event:AddToCart.value, mean of the sum per visitor") == 1
    assert output.count("sample ratio") == 1
    assert page.tags.count("svg") == 3


def test_the_verdict_is_a_sentence(shop: str, tmp_path: Path):
    result = result_of(shop, "event:Rating")
    (verdict,) = verdicts(result)
    assert verdict.startswith("Blue: higher than control, by about +")
    assert verdict in report_text(result)
    assert verdict in Page(report_page([[result]], shop, NOW)).words
    few = result_of(play(tmp_path / "few", visitors(60, lift=0.1)), "event:Rating")
    assert verdicts(few) == [
        "Blue: too early to conclude anything (needs 100 visitors per variant, and values that differ)."
    ]
    same = result_of(play(tmp_path / "same", visitors(900, lift=0)), "event:Rating")
    assert "Blue: no difference from control is established" in verdicts(same)[0]
    wrong = result_of(play(tmp_path / "wrong", visitors(2_000, lift=0, share=0.58)), "event:Rating")
    assert verdicts(wrong)[0].startswith("Do not conclude anything: the traffic was not split as configured")


def test_a_page_that_cannot_be_written_is_one_line(shop: str, tmp_path: Path):
    page = tmp_path / "nowhere" / "report.html"
    result = run("--warehouse", shop, "--html", str(page))
    assert result.exit_code == 1
    assert result.output.endswith(f"Error: cannot write {page}: No such file or directory\n")


def test_names_on_the_page_are_text_and_never_markup(shop: str):
    result = result_of(shop, "event:Rating")
    variants = tuple(replace(variant, name="<b>&") for variant in result.experiment.variants)
    evil = replace(result, experiment=replace(result.experiment, name="<script>x</script>", variants=variants))
    page = Page(report_page([[evil]], "<i>", NOW))
    assert not {"script", "b", "i"} & set(page.tags)
    assert "<script>x</script>" in page.words
    assert "<script>x</script>" in report_text(evil)


def test_a_chart_of_nothing_and_of_one_day_can_be_drawn():
    assert "<svg" in draw(Chart([], "visitors"))
    one = Series("a", "red", [(date(2023, 11, 15), 3.0)], [(date(2023, 11, 15), 2.0, 4.0)])
    other = Series("b", "blue", [(date(2023, 11, 15), 3.0)], [(date(2023, 11, 15), 1.0, 5.0)])
    drawn = ElementTree.fromstring(draw(Chart([one, other], "visitors")))
    intervals = [line for line in drawn.iter("line") if line.get("class") == "interval"]
    assert len({line.get("x1") for line in intervals}) == 2
    assert all(float(line.get("y1")) - float(line.get("y2")) > 10 for line in intervals)


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-0.03, 0.11), (2, 2.0001), (-1e6, 1e7)])
def test_ticks_are_round_and_inside(low: float, high: float):
    found = ticks(low, high)
    assert 3 <= len(found) <= 7
    assert all(low - 1e-12 <= tick <= high + 1e-12 for tick in found)
