"""Charts: what they say, what they draw, and how one looks in a real browser."""

from __future__ import annotations

import random
import shutil
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import holoviews as hv
import polars as pl
import pytest
from bokeh.models.annotations import Title

import k2kernel as k2
from k2kernel import plots
from k2kernel.config import Settings
from k2kernel.lake import Lake
from k2kernel.plots.axis import Axis
from k2kernel.plots.drawing import WIDTH, heading, thin
from tests.query_lake import DAY, NEXT, add, at
from tests.support import missing_service


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> k2.Workbench:
    """Two sessions of BHP from 10:00 to 12:00, a trade every ten seconds, quotes around it; RIO has quotes only."""
    home: Path = tmp_path_factory.mktemp("plots") / ".k2"
    lake = Lake.open(Settings(home=home), create=True)
    draw = random.Random(7)
    trades, quotes = [], []
    price = Decimal("35.00")
    for day in (DAY, NEXT):
        for n in range(720):
            price += Decimal(draw.choice([-1, 0, 1])) / 100
            row: dict[str, Any] = {"venue": "XASX", "session": day, "ts_event": at(n * 10, day), "clock": "venue"}
            late = {"ts_recv": row["ts_event"] + timedelta(microseconds=draw.choice([-40, 500, 900]))}
            side = draw.choice(["buy", "sell", None])
            trades.append(row | late | {"symbol": "BHP", "price": price, "size": Decimal(100 + n % 7), "side": side})
            book = {"bid_px": price - Decimal("0.01"), "ask_px": price + Decimal("0.01")}
            quotes += [row | book | {"symbol": name} for name in ("BHP", "RIO")]
    add(lake, "a" * 64, trades)
    add(lake, "b" * 64, quotes, "quotes")
    lake.tag("trades", "eod")
    return k2.connect(home)


def titles(chart: Any) -> str:
    """The titles in a chart as HoloViews was told them."""
    found = [hv.Store.lookup_options("bokeh", part, "plot").kwargs.get("title") for part in chart.traverse(lambda x: x)]
    return "\n".join(title for title in found if title)


def values(chart: Any, kind: Any) -> list[Any]:
    return list(chart.traverse(lambda part: part, [kind]))


def test_candles_are_the_bars_and_say_what_they_are_of(bench: k2.Workbench) -> None:
    chart = plots.candles(bench, "BHP", "5m")
    bars = bench.bars("BHP", "5m").to_polars()
    bodies = values(chart, hv.Rectangles)[0]
    assert bodies.dimension_values("price").tolist() == bars["open"].cast(float).to_list()
    assert bodies.dimension_values("price end").tolist() == bars["close"].cast(float).to_list()
    wicks = values(chart, hv.Segments)[0]
    assert wicks.dimension_values("price end").tolist() == bars["high"].cast(float).to_list()
    said = titles(chart)
    for fact in ("BHP on XASX", "5m bars of trades", "policy asx", "all hours", "the venue's clock", "trades at "):
        assert fact in said
    assert str(bench.bars("BHP").snapshots["trades"]) in said


def test_candles_of_what_has_no_trades_are_of_bid_and_ask(bench: k2.Workbench) -> None:
    chart = plots.candles(bench, "RIO", "5m")
    assert "bars of bid and ask" in titles(chart)
    assert "quotes at " in titles(chart)
    opens = [shape.dimension_values("price").tolist() for shape in values(chart, hv.Rectangles)[:2]]
    expected = [bench.bars("RIO", "5m", of=of).to_polars()["open"].cast(float).to_list() for of in ("bid", "ask")]
    assert opens == expected


def test_too_many_candles_are_drawn_together_exactly(bench: k2.Workbench) -> None:
    chart = plots.candles(bench, "BHP", "10s")
    assert "5 bars to a candle, 1,440 in all" in titles(chart)
    bars = bench.bars("BHP", "10s").to_polars()
    drawn = values(chart, hv.Segments)[0]
    assert max(drawn.dimension_values("price end")) == float(bars["high"].max())  # type: ignore[arg-type]
    assert min(drawn.dimension_values("price")) == float(bars["low"].min())  # type: ignore[arg-type]
    volumes = values(chart, hv.Rectangles)[1].dimension_values("top")
    assert sum(volumes) == float(bars["volume"].sum())


def test_the_axis_leaves_closed_hours_out_and_keeps_distances() -> None:
    opens = [datetime(2024, 3, day, 23, tzinfo=UTC) + timedelta(minutes=n) for day in (3, 4) for n in range(60)]
    axis = Axis.of(pl.Series(opens), "Australia/Sydney", 60_000)
    places = axis.at(pl.Series(opens))
    steps = places.diff().drop_nulls()
    assert len(axis.parts) == 2
    assert sorted(set(steps.to_list()))[:1] == [60_000.0]
    assert (steps > 60_000).sum() == 1
    assert places.max() < 2.2 * 3_600_000  # type: ignore[operator]
    assert "hours without data left out" in axis.label
    closed = axis.at(pl.Series([datetime(2024, 3, 4, 12, tzinfo=UTC)]))[0]
    assert closed == axis.parts[0][1]


def test_thinning_keeps_rows_and_extremes_and_says_so() -> None:
    draw = random.Random(3)
    n = 50_000
    frame = pl.DataFrame({"x": range(n), "y": [draw.gauss(0, 1) for _ in range(n)]})
    kept, said = thin(frame, "x", ["y"], 400)
    assert len(kept) <= 4 * 401
    assert kept.join(frame, on=["x", "y"], how="semi").height == len(kept)
    for pixel in range(400):
        inside = frame.filter((pl.col("x") * 400 / (n - 1)).floor() == pixel)
        drawn = kept.filter(pl.col("x").is_in(inside["x"].implode()))
        assert (drawn["y"].min(), drawn["y"].max()) == (inside["y"].min(), inside["y"].max())
    assert said.startswith(f"{len(kept):,} of 50,000 points drawn")
    assert thin(frame.head(100), "x", ["y"], 400)[1] == ""


def test_every_chart_says_its_facts(bench: k2.Workbench) -> None:
    charts = {
        "trades over the book": plots.tape(bench, "BHP"),
        "BHP on XASX, quotes": plots.quotes(bench, "BHP", as_of=None),
        "volume in 10m by time of day": plots.profile(bench, "BHP", "10m"),
        "receipt after event": plots.latency(bench, "BHP"),
    }
    for name, chart in charts.items():
        said = titles(chart)
        assert name in said
        assert "clock" in said
        assert " at " in said
    skew = "rows received before they happened: the two clocks differ by at least 0.040 ms"
    assert skew in titles(charts["receipt after event"])
    assert "States of trades" in titles(plots.snapshots(bench))


def test_what_is_said_of_a_chart_stands_under_its_name(bench: k2.Workbench) -> None:
    above, below = (child[0] for child in hv.render(plots.candles(bench, "BHP", "5m")).children)
    under = [str(title.text) for title in above.above if isinstance(title, Title)]
    assert above.title.text == "BHP on XASX, 5m bars of trades"
    assert len(under) == 1
    assert under[0].startswith("policy asx · all hours · the venue's clock · trades at ")
    assert (above.xaxis[0].visible, below.xaxis[0].visible) == (False, True)


def test_own_orders_are_marked_where_and_when_they_were(bench: k2.Workbench) -> None:
    orders = pl.DataFrame(
        {"ts_event": [at(60), at(120), at(60, NEXT)], "price": [35.0, 35.1, 34.9], "side": ["buy", "sell", "buy"]}
    )
    chart = plots.candles(bench, "BHP", "5m", marks=orders)
    bought, sold = values(chart, hv.Points)
    axis = Axis.of(bench.bars("BHP", "5m").to_polars()["ts_open"], "Australia/Sydney", 300_000)
    assert bought.dimension_values("x").tolist() == axis.at(orders["ts_event"])[[0, 2]].to_list()
    assert (bought.dimension_values("price").tolist(), sold.dimension_values("price").tolist()) == ([35, 34.9], [35.1])
    assert (bought.label, sold.label) == ("marked buy", "marked sell")
    assert len(values(plots.tape(bench, "BHP", marks=orders), hv.Points)) == 5


def test_prints_far_from_the_book_are_off_the_axis_and_counted(bench: k2.Workbench) -> None:
    far = bench.lake.head("trades")
    add(bench.lake, "c" * 64, [{"symbol": "BHP", "venue": "XASX", "session": DAY, "ts_event": at(5), "clock": "venue",
                                "price": Decimal(99), "size": Decimal(1)}])  # fmt: skip
    words: dict[str, Any] = {"session": DAY.isoformat()}
    assert "1 trades off the axis" in titles(plots.tape(bench, "BHP", **words))
    top = hv.render(plots.tape(bench, "BHP", **words)).y_range.end
    book = bench.quotes("BHP", **words).to_polars()
    assert top == pytest.approx(float(1.5 * float(book["ask_px"].max()) - 0.5 * float(book["bid_px"].min())))  # type: ignore[arg-type]
    whole = plots.tape(bench, "BHP", outliers=True, **words)
    assert "off the axis" not in titles(whole)
    assert hv.render(whole).y_range.end >= 99
    bench.rollback("trades", far)


def test_a_chart_is_in_another_zone_where_it_is_asked_for(bench: k2.Workbench) -> None:
    for chart in (plots.candles, plots.tape, plots.quotes, plots.imbalance, plots.latency, plots.profile):
        drawn = hv.render(chart(bench, "BHP", tz="UTC"))
        figures = [child[0] for child in drawn.children] if hasattr(drawn, "children") else [drawn]
        assert "UTC" in {figure.xaxis[0].axis_label.partition(",")[0] for figure in figures}, chart


def test_a_profile_is_the_mean_by_time_of_day(bench: k2.Workbench) -> None:
    chart = plots.profile(bench, "BHP", "10m")
    tops = values(chart, hv.Rectangles)[-1].dimension_values("top")
    total = float(bench.bars("BHP", "session").to_polars()["volume"].sum())
    assert sum(tops) == pytest.approx(total / 2)


@pytest.mark.parametrize("kind", ["line", "bar", "scatter", "hist"])
def test_rows_as_a_chart(bench: k2.Workbench, kind: str) -> None:
    found = bench.sql("SELECT session, sum(size) AS volume FROM trades GROUP BY ALL ORDER BY ALL")
    assert hv.render(plots.chart(found, kind)) is not None


def test_rows_over_time_leave_closed_hours_out_and_are_told_apart(bench: k2.Workbench) -> None:
    found = bench.sql("SELECT ts_event, price, side FROM trades WHERE side IS NOT NULL ORDER BY ts_event")
    chart = plots.chart(found, "scatter")
    assert {shape.label for shape in values(chart, hv.Points)} == {"buy", "sell"}
    assert max(shape.range("x")[1] for shape in values(chart, hv.Points)) < 5 * 3_600_000
    assert "hours without data left out" in hv.render(chart).xaxis[0].axis_label
    assert "price by ts_event" in titles(chart)
    again = plots.chart(found.to_polars(), "scatter", title="Prints", tz="UTC")
    assert "Prints" in titles(again)
    assert hv.render(again).xaxis[0].axis_label.startswith("UTC")
    assert [len(each) for each in values(again, hv.Points)] == [len(each) for each in values(chart, hv.Points)]


def test_a_histogram_says_what_is_off_its_axis() -> None:
    sizes = pl.DataFrame({"size": [*range(1_000), 10**9]})
    chart = plots.chart(sizes, "hist")
    assert "size: 10 of 1,001 off the axis" in titles(chart)
    assert values(chart, hv.Histogram)[0].dimension_values("rows").sum() == 991
    assert "off the axis" not in titles(plots.chart(sizes.head(1_000), "hist"))


def test_what_cannot_be_drawn_says_why(bench: k2.Workbench) -> None:
    with pytest.raises(k2.K2Error, match="There are no rows to draw"):
        plots.chart(bench.sql("SELECT price FROM trades WHERE false"), "line")
    with pytest.raises(k2.K2Error, match="the rows have no ts_open"):
        plots.chart(bench.sql("FROM trades"), "candle")
    with pytest.raises(k2.K2Error, match="no column of numbers"):
        plots.chart(bench.sql("SELECT symbol FROM trades"), "line")


def test_a_heading_goes_on_in_the_next_line() -> None:
    assert heading("name", "a" * 100, "", "b" * 100) == f"name\n{'a' * 100}\n{'b' * 100}"


def test_candles_in_a_real_browser(bench: k2.Workbench, tmp_path: Path) -> None:
    from PIL import Image
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or missing_service("chromium", "apt-get install chromium")
    page_file, shot = tmp_path / "candles.html", tmp_path / "candles.png"
    hv.save(plots.candles(bench, "BHP", "5m"), page_file, resources="inline")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    faults: list[str] = []
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=options)
        page = opened.new_page(viewport={"width": WIDTH + 60, "height": 600})
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_function("Bokeh.documents.length && Bokeh.documents[0].is_idle")
        page.screenshot(path=str(shot))
        opened.close()
    assert not faults
    colours = {colour for _, colour in Image.open(shot).convert("RGB").getcolors(1 << 24) or []}
    for name in ("#16845c", "#c23b3b", "#b7791f", "#64748b"):  # up, down, VWAP, volume
        assert tuple(bytes.fromhex(name[1:])) in colours
