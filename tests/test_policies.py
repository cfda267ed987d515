"""The shipped policies of what counts, against the public tables of sale conditions, written out once more by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import k2kernel as k2
from k2kernel.eligibility import FIELDS, policies, policy
from k2kernel.lake import Lake
from k2kernel.query import QueryEngine
from tests.query_lake import DAY, add, event, utc

TODAY = date(2024, 3, 4)

EFFECTS = {
    "all": set(FIELDS),
    "volume": {"volume"},
    "odd": {"volume", "vwap"},
    "not last": {"high_low", "volume", "vwap"},  # the tape: last only if it is the only one
    "no volume": {"high_low", "last"},
    "nothing": set[str](),
}
CTA = {  # high/low, last and volume of the consolidated columns
    "all": "@ E F K L O X 5 6",
    "volume": "B C H N R T U V 7",
    "odd": "I",
    "not last": "P Z 4",
    "no volume": "9",
    "nothing": "M Q",
}
UTP = {
    "all": "@ A B D F K L O S X Y 1 5 6",
    "volume": "C H N R T U V W 7",
    "odd": "I",
    "not last": "G P Z 4",
    "no volume": "9",
    "nothing": "M Q",
}


def counts_for(name: str, code: str, session: date = TODAY) -> set[str]:
    rules = [rule for rule in policies()[name].rules if rule.code == code and rule.holds(session)]
    assert len(rules) <= 1
    return set(FIELDS) - (rules[0].excluded if rules else frozenset())


@pytest.mark.parametrize(("name", "table"), [("cta", CTA), ("utp", UTP)])
def test_each_code_counts_for_what_the_table_says(name: str, table: dict[str, str]) -> None:
    for effect, codes in table.items():
        for code in codes.split():
            assert counts_for(name, code) == EFFECTS[effect], code
            assert policies()[name].unknown([code], TODAY) == (), code


@pytest.mark.parametrize("name", ["cta", "utp"])
def test_codes_changed_their_meaning(name: str) -> None:
    assert counts_for(name, "I", date(2013, 12, 8)) == set(FIELDS)
    assert counts_for(name, "I", date(2013, 12, 9)) == {"volume", "vwap"}
    assert counts_for(name, "V", date(2015, 7, 1)) == set(FIELDS)
    assert counts_for(name, "V", date(2015, 8, 3)) == {"volume"}
    known = policies()[name]
    assert known.unknown(["9", "I", "?"], date(2013, 12, 6)) == ("9", "?")
    assert known.unknown(["9", "I", "?"], date(2013, 12, 9)) == ("?",)


def test_one_file_serves_the_venues_of_a_tape() -> None:
    for code in ("XNYS", "ARCX", "XASE", "BATS", "IEXG", "EDGX", "MEMX", "FINN"):
        assert policy(code).name == "cta"
    assert policy("XNAS").name == "utp"
    assert (policy("XASX").name, policy("BINANCE").name) == ("asx", "all")
    named = [code for entry in policies().values() for code in entry.venues]
    assert len(named) == len(set(named))


ROWS: tuple[tuple[str, int, int, list[str]], ...] = (
    ("09:30:00", 99, 0, ["Q"]),
    ("09:30:01", 10, 100, ["@", "O"]),
    ("09:30:02", 50, 7, ["@", "F", "I"]),  # several codes: each must allow
    ("09:30:03", 8, 100, ["@", "Z"]),
    ("09:30:04", 11, 100, ["@", "F"]),
    ("09:30:05", 1, 100, ["@", "T"]),
    ("09:30:06", 12, 100, ["@", "4", "W"]),
    ("09:30:07", 13, 100, ["@", "?"]),
    ("09:30:08", 40, 100, ["@", "Z", "!"]),
    ("16:00:05", 88, 500, ["M"]),
)


def us_trades(venue: str) -> list[dict[str, Any]]:
    return [
        event(
            venue=venue,
            ts_event=utc(f"2014-03-10T{clock}-04:00"),
            price=Decimal(price),
            size=Decimal(size),
            conditions=codes,
        )
        for clock, price, size, codes in ROWS
    ]


def test_a_trade_counts_only_where_all_of_its_codes_allow_it(lake: Lake) -> None:
    add(lake, "a", us_trades("XNAS"))
    engine = QueryEngine(lake)
    found = engine.summary("BHP", DAY)
    assert found.eligible == "utp"
    assert [found.open, found.high, found.low, found.close] == [10, 40, 8, 13]
    assert found.volume == 100 + 7 + 100 + 100 + 100 + 100 + 100 + 100
    assert found.notional == 1000 + 350 + 800 + 1100 + 1300 + 4000
    assert found.trade_count == 8
    assert found.unknown_conditions == ("!", "?")
    everything = engine.summary("BHP", DAY, eligible="all")
    assert [everything.high, everything.trade_count, everything.unknown_conditions] == [99, 10, ()]


def test_the_same_letter_is_another_condition_on_the_other_tape(lake: Lake) -> None:
    add(lake, "a", [event(venue=code, conditions=["B"], symbol=code) for code in ("XNYS", "XNAS")])
    high = {code: QueryEngine(lake).summary(code, DAY).high for code in ("XNYS", "XNAS")}
    assert high == {"XNYS": None, "XNAS": Decimal("35.10")}


def test_unknown_conditions_are_of_the_hours_asked_for(lake: Lake) -> None:
    moments = ("2014-03-10T09:00-04:00", "2014-03-10T12:00-04:00")
    codes = ("early", "noon")
    rows = [event(venue="XNYS", ts_event=utc(at), conditions=[code]) for at, code in zip(moments, codes, strict=True)]
    add(lake, "a", rows)
    engine = QueryEngine(lake)
    assert engine.summary("BHP", DAY).unknown_conditions == ("early", "noon")
    assert engine.summary("BHP", DAY, hours="rth").unknown_conditions == ("noon",)


def test_the_four_letters_of_a_daily_file_are_four_codes(tmp_path: Path) -> None:
    head = (
        "Time|Exchange|Symbol|Sale Condition|Trade Volume|Trade Price|Trade Stop Stock Indicator"
        "|Trade Correction Indicator|Sequence Number|Trade Id|Source of Trade|Trade Reporting Facility"
        "|Participant Timestamp|Trade Reporting Facility TRF Timestamp|Trade Through Exempt Indicator\n"
    )
    lines = (
        "093000000000000|N|A| O  |500|60.5|N|00|1|1|C| |093000000000000||0\n"
        "093001000000000|P|A|@F I|1|70|N|00|2|2|C| |093001000000000||1\n"
        "093002000000000|P|A|@ TI|9|80|N|00|3|3|C| |093002000000000||1\n"
        "093003000000000|T|MSFT|@6 X|5|60.5|N|00|4|4|N| |093003000000000||0\n"
        "160000000000000|N|A|   M|500|61|N|00|5|5|C| |160000000000000||0\n"
        "END|20180102|5||||||||||||\n"
    )
    path = tmp_path / "EQY_US_ALL_TRADE_20180102"
    path.write_text(head + lines)
    bench = k2.connect(tmp_path / "lake")
    bench.ingest(path, "taq-trades")
    found = bench.summary("A", "2018-01-02")
    assert [found.open, found.high, found.close, found.volume, found.eligible] == [*[Decimal("60.5")] * 3, 510, "cta"]
    assert found.unknown_conditions == ()
    assert bench.summary("MSFT", "2018-01-02").eligible == "utp"


def test_a_users_file_replaces_a_shipped_policy_or_takes_its_venue(lake: Lake) -> None:
    add(lake, "a", us_trades("XNAS"))
    folder = lake.settings.home / "policies"
    folder.mkdir()
    (folder / "cta.toml").write_text('venues = ["XNAS"]\n[[codes]]\ncode = "Z"\ncounts_for = []\n[counted]\n"@" = ""\n')
    found = QueryEngine(lake).summary("BHP", DAY)
    assert [found.eligible, found.high, found.trade_count] == ["cta", 99, 8]
    assert found.unknown_conditions == ("!", "4", "?", "F", "I", "M", "O", "Q", "T", "W")
    assert policy("XNYS", home=lake.settings.home).name == "all"
