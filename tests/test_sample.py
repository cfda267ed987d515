"""The generator keeps what its documentation promises; every count is taken from the text of the files."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from k2kernel.errors import InvalidParameter
from k2kernel.sample import generate
from tests import truths

if TYPE_CHECKING:
    from tests.truths import Quote, Trade

ROWS = 60_000
GOLDEN = "843c908adc1577f87e5f92a54309f9efab35bc1897588b692c8b4dc0e8404353"
"""Of all files of `generate(rows=2_000)`: it changes only when the model is changed on purpose."""


def digest(paths: list[Path]) -> str:
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = generate(tmp_path_factory.mktemp("sample"), rows=ROWS)
    return {path.stem: path for path in made}


@pytest.fixture(scope="module")
def trades(paths: dict[str, Path]) -> list[Trade]:
    return truths.read_trades(path for name, path in paths.items() if name.startswith("trades"))


@pytest.fixture(scope="module")
def quotes(paths: dict[str, Path]) -> list[Quote]:
    return truths.read_quotes(path for name, path in paths.items() if name.startswith("quotes"))


@pytest.fixture(scope="module")
def ticks(paths: dict[str, Path]) -> dict[tuple[str, str], Decimal]:
    with paths["instruments"].open(newline="") as lines:
        return {(row["venue"], row["symbol"]): Decimal(row["tick_size"]) for row in csv.DictReader(lines)}


def of(rows: list[Trade], venue: str, *conditions: str) -> list[Trade]:
    return [row for row in rows if row.venue == venue and set(conditions) <= set(row.conditions)]


def local(row: Trade | Quote) -> datetime:
    return datetime.fromtimestamp(row.ts / 1e6, ZoneInfo(truths.ZONES[row.venue]))


# -- determinism


def test_the_bytes_are_those_of_record(tmp_path: Path) -> None:
    assert digest(generate(tmp_path, rows=2_000)) == GOLDEN


@pytest.mark.parametrize(
    "other",
    [{"seed": 8}, {"rows": 2_001}, {"sessions": 2}, {"symbols": 11}, {"start": date(2024, 3, 5)}],
    ids=lambda other: next(iter(other)),
)
def test_other_arguments_give_other_bytes(tmp_path: Path, other: dict[str, int]) -> None:
    assert digest(generate(tmp_path, **{"rows": 2_000, **other})) != GOLDEN  # type: ignore[arg-type]


@pytest.mark.parametrize("zone", ["Australia/Sydney", "America/New_York"])
def test_neither_zone_nor_locale_nor_threads_matter(tmp_path: Path, zone: str) -> None:
    code = (
        "import sys; from pathlib import Path; from k2kernel.sample import generate\n"
        "generate(Path(sys.argv[1]), rows=2_000)"
    )
    env = {**os.environ, "TZ": zone, "LC_ALL": "C", "POLARS_MAX_THREADS": "1", "PYTHONHASHSEED": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, check=True)
    assert digest(list(tmp_path.iterdir())) == GOLDEN


def test_a_kind_does_not_depend_on_the_other(tmp_path: Path) -> None:
    both = {path.name: path.read_bytes() for path in generate(tmp_path / "both", rows=3_000)}
    for kind in ("trades", "quotes"):
        for path in generate(tmp_path / kind, rows=3_000, kinds=(kind,)):
            assert path.read_bytes() == both[path.name]


# -- files


def test_one_file_a_kind_and_venue_and_the_instruments(paths: dict[str, Path]) -> None:
    venues = ("XASX", "XNYS", "BINANCE")
    assert list(paths) == [f"{kind}-{venue}" for venue in venues for kind in ("trades", "quotes")] + ["instruments"]
    folder = paths["instruments"].parent
    assert sorted(folder.iterdir()) == sorted(paths.values())
    assert b"\r" not in b"".join(path.read_bytes() for path in paths.values())


def test_the_rows_of_each_kind_are_exact(tmp_path: Path, trades: list[Trade], quotes: list[Quote]) -> None:
    assert len(trades) == len(quotes) == ROWS
    made = generate(tmp_path, rows=1_237, sessions=7, symbols=5)
    for kind in ("trades", "quotes"):
        files = [path for path in made if path.name.startswith(kind)]
        assert sum(len(path.read_bytes().splitlines()) - 1 for path in files) == 1_237


@pytest.mark.parametrize("symbols", [1, 2, 3, 12, 40])
def test_every_symbol_is_an_instrument_and_there_are_as_many_as_asked(tmp_path: Path, symbols: int) -> None:
    made = generate(tmp_path, rows=40_000, symbols=symbols, sessions=1, kinds=("trades",))
    with made[-1].open(newline="") as lines:
        instruments = {(row["venue"], row["symbol"]) for row in csv.DictReader(lines)}
    assert len(instruments) == symbols
    assert {(row.venue, row.symbol) for row in truths.read_trades(made[:-1])} == instruments


def test_text_is_plain(paths: dict[str, Path]) -> None:
    for name, path in paths.items():
        if name != "instruments":
            rows = list(csv.DictReader(path.read_text().splitlines()))
            for column in {"price", "size", "bid_px", "ask_px", "bid_sz", "ask_sz"} & set(rows[0]):
                for value in {row[column] for row in rows} - {""}:
                    assert "e" not in value.lower()
                    assert not (value.endswith(("0", ".")) and "." in value)
                    assert Decimal(value) > 0
            for row in rows[:100]:
                assert len(row["ts_event"]) == 27
                assert row["ts_event"].endswith("Z")


def test_progress_ends_at_the_total(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    generate(tmp_path, rows=2_000, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (4_000, 4_000)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rows", 999), ("sessions", 0), ("symbols", 0), ("symbols", 301), ("seed", -1), ("kinds", ("bars",))],
)
def test_a_senseless_argument_is_named(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(InvalidParameter, match=f"^{name}="):
        generate(tmp_path / "out", **{name: value})  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_memory_is_bounded_by_the_chunk(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from k2kernel.sample import generate\n"
        "generate(Path(sys.argv[1]), rows=int(sys.argv[2]), sessions=1, symbols=1, kinds=('trades',))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", code, str(tmp_path), str(rows)]))
        for rows in (500_000, 2_500_000)
    ]
    assert peaks[1] < peaks[0] + 150


# -- times and order


def test_sessions_are_those_asked_for(tmp_path: Path) -> None:
    made = generate(tmp_path, rows=3_000, start=date(2024, 4, 5))
    rows: list[Trade | Quote] = [*truths.read_trades(made[:-1:2]), *truths.read_quotes(made[1:-1:2])]
    sessions = {venue: sorted({row.session.day for row in rows if row.venue == venue}) for venue in truths.ZONES}
    assert sessions == {"XASX": [5, 8, 9], "XNYS": [5, 8, 9], "BINANCE": [5, 6, 7]}
    first = {
        day: min(local(row).strftime("%H") for row in rows if row.venue == "XASX" and row.session.day == day)
        for day in (5, 8, 9)
    }
    assert set(first.values()) == {"07"}, "local, before and after the clocks go back on 7 April"


def test_a_sydney_session_straddles_two_utc_dates(trades: list[Trade], quotes: list[Quote]) -> None:
    for rows in (trades, quotes):
        dates = defaultdict(set)
        for row in rows:
            if row.venue == "XASX":
                dates[row.session].add(datetime.fromtimestamp(row.ts / 1e6, UTC).date())
        assert len(dates) == 3
        assert all(len(days) == 2 for days in dates.values())


def test_only_the_late_rows_are_out_of_order(trades: list[Trade], quotes: list[Quote]) -> None:
    for rows in (trades, quotes):
        for venue in truths.ZONES:
            late = sum(two.ts < one.ts for one, two in pairwise([row for row in rows if row.venue == venue]))
            assert (late > 10) if venue == "XNYS" else (late == 0)
    times = [row for row in trades if row.venue == "XNYS" and "Z" not in row.conditions]
    assert all(one.ts <= two.ts for one, two in pairwise(times))


def test_sequence_numbers_follow_the_file(trades: list[Trade]) -> None:
    assert all(row.sequence is None for row in trades if row.venue == "XASX")
    for venue in ("XNYS", "BINANCE"):
        rows = [row for row in trades if row.venue == venue]
        for one, two in pairwise(rows):
            again = venue == "XNYS" and one.session != two.session
            assert two.sequence == (1 if again else (one.sequence or 0) + 1)


def test_received_after_but_for_a_skewed_clock(trades: list[Trade]) -> None:
    assert all(row.ts_recv is None for row in trades if row.venue == "XASX")
    for venue, skew in (("XNYS", -40), ("BINANCE", 2_000)):
        lags = [row.ts_recv - row.ts for row in trades if row.venue == venue and row.ts_recv is not None]
        missing = sum(row.ts_recv is None for row in trades if row.venue == venue)
        assert skew <= min(lags)
        assert (min(lags) < 0) == (venue == "XNYS")
        assert missing > 0


# -- what the market is like


def test_the_day_is_a_u(trades: list[Trade]) -> None:
    hours = Counter(local(row).hour for row in trades if row.venue == "XASX" and 10 <= local(row).hour < 16)
    assert min(hours[10], hours[15]) > 1.5 * max(hours[12], hours[13])


def test_symbols_follow_zipf(trades: list[Trade]) -> None:
    for venue in truths.ZONES:
        counts = [count for _, count in Counter(row.symbol for row in trades if row.venue == venue).most_common()]
        assert 1.7 < counts[0] / counts[1] < 2.3
        assert 2.5 < counts[0] / counts[2] < 3.5


def test_auctions_have_one_instant_and_one_price(trades: list[Trade]) -> None:
    for venue, codes in (("XASX", ("OA", "CA")), ("XNYS", ("O", "6"))):
        for code in codes:
            prints = defaultdict(list)
            for row in of(truths.fills(trades, apply_cancels=False), venue, code):
                prints[row.symbol, row.session].append(row)
            assert sum(map(len, prints.values())) > 300
            assert all(len({(row.ts, row.price) for row in group}) == 1 for group in prints.values())
            assert {row.side for group in prints.values() for row in group} == {""}
            assert len({group[0].ts for (_, session), group in prints.items() if session == min(prints)[1]}) > 1


def test_sweeps_put_many_fills_in_a_millisecond(trades: list[Trade]) -> None:
    plain = [row for row in trades if not row.conditions or row.conditions[0] in ("F", "I")]
    for venue in truths.ZONES:
        groups = defaultdict(list)
        for row in plain:
            if row.venue == venue:
                groups[row.symbol, row.ts // 1_000].append(row.price)
        assert max(map(len, groups.values())) >= 32
        assert any(len(set(group)) > 3 for group in groups.values())


def test_repeats_are_equal_in_every_byte(paths: dict[str, Path], trades: list[Trade]) -> None:
    lines = paths["trades-XASX"].read_bytes().splitlines()[1:]
    repeated = len(lines) - len(set(lines))
    assert 0.01 < repeated / len(lines) < 0.10
    nameless = [row for row in trades if not row.trade_id]
    assert {row.venue for row in nameless} == {"XASX"}
    assert len(nameless) > repeated
    for other in ("trades-XNYS", "trades-BINANCE"):
        rows = paths[other].read_bytes().splitlines()
        assert len(rows) == len(set(rows))


def test_half_tick_and_off_market_prints_carry_their_conditions(
    trades: list[Trade], ticks: dict[tuple[str, str], Decimal]
) -> None:
    off = {"XASX": {"CX", "X"}, "XNYS": {"B", "4"}, "BINANCE": set()}
    for row in trades:
        assert row.price % ticks[row.venue, row.symbol] == 0 or off[row.venue] & set(row.conditions), row
    for venue, crossing, away in (("XASX", "CX", "X"), ("XNYS", "B", "4")):
        half = [row for row in of(trades, venue, crossing) if row.price % ticks[row.venue, row.symbol]]
        assert len(half) > 100
        assert all(row.price * 2 % ticks[row.venue, row.symbol] == 0 for row in half)
        assert len(of(trades, venue, away)) > 20
    assert len(of(trades, "XASX", "X", "EX")) > 20
    assert {local(row).hour for row in of(trades, "XASX", "EX")} <= {7, 8, 9, 16, 17, 18}


def test_off_market_prints_move_the_high_of_the_day(trades: list[Trade]) -> None:
    everything = truths.daily(truths.fills(trades))
    on_market = truths.daily(truths.fills(trades), truths.without({"XASX": ["X"]}))
    moved = [key for key, bar in everything.items() if bar.high != on_market[key].high]
    assert len(moved) > 5
    assert {venue for venue, _, _ in moved} == {"XASX"}


def test_a_cancel_names_an_earlier_row_and_repeats_it(trades: list[Trade]) -> None:
    cancels = [row for row in trades if row.status]
    assert {row.status for row in cancels} == {"cancel"}
    assert Counter(row.venue for row in cancels).keys() == {"XASX", "XNYS"}
    assert len(cancels) >= 40
    named = {(row.venue, row.trade_id): row for row in trades if row.trade_id}
    assert len(named) == sum(bool(row.trade_id) for row in trades), "an id is used once"
    for row in cancels:
        original = named[row.venue, row.corrects]
        assert original.line < row.line
        assert original.ts < row.ts
        assert not original.status
        assert original.key == row.key
        assert original[9:13] == row[9:13]
    assert len(truths.fills(trades)) == len(trades) - 2 * len(cancels)


def test_quotes_are_one_sided_locked_and_crossed(quotes: list[Quote]) -> None:
    kinds = Counter((row.venue, truths.kind_of_quote(row)) for row in quotes)
    for venue in ("XASX", "XNYS"):
        assert min(kinds[venue, kind] for kind in ("one-sided", "locked", "crossed")) > 20
    assert kinds["BINANCE", "one-sided"] > 5
    assert kinds["BINANCE", "locked"] == kinds["BINANCE", "crossed"] == 0
    for side in ("bid", "ask"):
        missing = [row for row in quotes if getattr(row, f"{side}_px") is None]
        assert missing
        assert all(getattr(row, f"{side}_sz") is None for row in missing)
    assert sum(kinds[venue, "regular"] for venue in truths.ZONES) > 0.95 * len(quotes)


def test_trades_and_quotes_of_a_second_agree(
    trades: list[Trade], quotes: list[Quote], ticks: dict[tuple[str, str], Decimal]
) -> None:
    book = {
        (row.venue, row.symbol, row.ts // 1_000_000): row for row in quotes if truths.kind_of_quote(row) == "regular"
    }
    compared = 0
    for row in trades:
        quote = book.get((row.venue, row.symbol, row.ts // 1_000_000))
        if quote is None or row.status or set(row.conditions) & {"X", "4", "Z"}:
            continue
        assert quote.bid_px is not None
        assert quote.ask_px is not None
        room = 4 * ticks[row.venue, row.symbol]
        assert quote.bid_px - room <= row.price <= quote.ask_px + room
        compared += 1
    assert compared > 1_000


def test_names_that_need_care(trades: list[Trade]) -> None:
    assert {row.venue for row in trades if row.symbol == "BHP"} == {"XASX", "XNYS"}
    assert {"360", "BRK.B"} <= {row.symbol for row in trades}


# -- the truths themselves, on rows worked out by hand


HAND = """\
ts_event,ts_recv,symbol,venue,exec_venue,sequence,trade_id,price,size,side,conditions,status,corrects
2024-03-03T20:05:00.000000Z,,BHP,XASX,,,a,50,1,,X;EX,,
2024-03-03T23:00:00.000000Z,,BHP,XASX,XASX,,b,44.1,3,buy,,,
2024-03-03T23:00:00.000000Z,,BHP,XASX,XASX,,,44,2,buy,,,
2024-03-03T23:00:00.000000Z,,BHP,XASX,XASX,,,44,2,buy,,,
2024-03-03T23:00:59.999999Z,,BHP,XASX,XASX,,c,44.3,7,buy,,,
2024-03-03T23:05:00.000000Z,,BHP,XASX,XASX,,d,44.3,7,buy,,cancel,c
2024-03-04T13:30:00.000000Z,,BHP,XASX,XASX,,e,45,1,buy,,,
"""


def test_truths_of_a_file_worked_out_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "trades-XASX.csv"
    path.write_text(HAND)
    rows = truths.read_trades([path])
    facts = truths.facts(rows, [path])
    assert (facts.rows, facts.repeated) == (7, 1)
    assert facts.rows_per_session == {("XASX", date(2024, 3, 4)): 6, ("XASX", date(2024, 3, 5)): 1}
    key, text = ("XASX", "BHP", date(2024, 3, 4)), Decimal
    bar = truths.daily(truths.fills(rows), truths.without({"XASX": ["X"]}))[key]
    assert bar == (3, text("44.1"), text("44.1"), text(44), text(44), text(7), text("308.3"), text("44.042857142857"))
    bar = truths.daily(truths.fills(rows, apply_cancels=False))[key]
    assert bar[:6] == (5, text(50), text(50), text(44), text("44.3"), text(15))
    bar = truths.daily(truths.fills(rows), {"XASX": {"high_low": ["X"], "volume": ["EX"]}})[key]
    assert bar == (4, text(50), text("44.1"), text(44), text(44), text(7), text("358.3"), text("44.7875"))
    minute = truths.intraday(truths.fills(rows, apply_cancels=False), 1)
    assert sorted(bar.n_trades for bar in minute.values()) == [1, 1, 4]
