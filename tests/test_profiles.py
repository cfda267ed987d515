"""The shipped profiles, what they drop, and what is wrong with a profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from k2kernel import profiles, schemas
from k2kernel.errors import FileFault, ProfileError, UnknownProfile
from tests.decoding import PLAIN, decode, profile_of

TRIED = {
    "asx-companies",
    "asx-dividends",
    "asx-mergers",
    "asx-quotes",
    "asx-splits",
    "asx-trades",
    "binance-spot-ws",
    "binance-usdm-ws",
    "fxcm-quotes",
    "k2-instruments",
    "k2-quotes",
    "k2-trades",
    "oanda-quotes",
    "sse-trades",
}
UNTRIED = {
    "binance-aggtrades-csv",
    "binance-trades-csv",
    "binance-usdm-aggtrades-csv",
    "binance-usdm-trades-csv",
    "databento-tbbo-csv",
    "databento-trades-csv",
    "lobster-trades",
    "taq-quotes",
    "taq-trades",
    "tardis-quotes-csv",
    "tardis-trades-csv",
}
DROPPED = {
    "binance-spot-ws": [
        "stream",
        "e",
        "lastUpdateId",
    ],  # the route says the first two, the third is of skipped messages
    "binance-usdm-ws": ["stream", "e", "lastUpdateId"],
}


def test_what_is_shipped() -> None:
    assert set(profiles.shipped()) == TRIED | UNTRIED
    assert {name for name in profiles.shipped() if profiles.load(name).tried} == TRIED


@pytest.mark.parametrize("name", profiles.shipped())
def test_a_shipped_profile(name: str) -> None:
    profile = profiles.load(name)
    assert profile.name == name
    assert profile.title
    assert profile.notes.strip()
    assert profile.dropped() == DROPPED.get(name, [])
    assert profile.file.columns, "a profile says which columns its files have"
    for route in profile.route:
        named = set(profile.file.columns) | {"recv_ns", "exec_venue", "*"}
        assert route.references <= named
        assert set(route.columns) <= set(schemas.TABLES[route.table].names)
    described = profiles.describe(profile)
    assert described.startswith(f"{name}: {profile.title}\n")
    assert f"drops: {', '.join(profile.dropped()) or 'nothing'}" in described
    assert all(f"--{option}" in described for option in profile.options)
    assert profiles.source(profile).startswith('title = "')


def test_a_title_makes_no_other_profile(tmp_path: Path) -> None:
    first = profile_of(tmp_path, PLAIN, "a")
    second = profile_of(tmp_path, PLAIN.replace("the least", "another"), "b")
    third = profile_of(
        tmp_path, PLAIN.replace("iso8601", "%Y-%m-%dT%H:%M:%SZ").replace('SZ"', 'SZ", zone = "UTC"'), "c"
    )
    assert first.digest == second.digest != third.digest


def test_own_profiles_go_before_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    profile_of(tmp_path / "profiles", PLAIN, "k2-trades")
    assert profiles.load("k2-trades", tmp_path).title == "the least of a profile"
    assert profiles.load("k2-trades").title != "the least of a profile"


@pytest.mark.parametrize(("name", "header"), [("k2-quotes", "price,size"), ("k2-trades", "bid_px,ask_px")])
def test_trades_are_no_quotes_and_quotes_no_trades(tmp_path: Path, name: str, header: str) -> None:
    (file := tmp_path / "data.csv").write_text(f"symbol,venue,ts_event,{header}\nBHP,XASX,2024-03-04T10:00:00Z,1,2\n")
    with pytest.raises(FileFault, match="is it the right profile"):
        decode(profiles.load(name), file)


def test_an_unknown_profile() -> None:
    with pytest.raises(UnknownProfile, match=r"no profile 'asx'.*asx-trades"):
        profiles.load("asx")


def test_dropped_counts_what_a_file_has_and_no_one_takes(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, PLAIN.replace('"price"]', '"price", "note"]'))
    assert profile.dropped() == ["note"]
    path = tmp_path / "x.csv"
    path.write_text("time,price,more\n2024-03-04T10:00:00Z,1,x\n")
    assert decode(profile, path).dropped == ["more"]


WRONG = {
    "unknown key": ('title = "x"\ncolour = 1', "title", "colour", "Extra inputs"),
    "unknown file key": ("[file]", "[file]\nseparator = ';'", "file.separator", "Extra inputs"),
    "unknown value key": (
        'price = "price"',
        'price = { column = "price", factor = 2 }',
        "price.Value.factor|price.factor",
        "",
    ),
    "unknown table": ('"trades"', '"trade"', "route.0", "is not one of trades, quotes"),
    "unknown column": ("price = ", "prize = ", "route.0", "prize: not a column of trades"),
    "derived column": ("price = ", "clock = ", "route.0", "clock: not a column of trades"),
    "no symbol": ('symbol = { constant = "S" }', "", "route.0", "symbol is missing"),
    "no time": ('ts_event = { column = "time", layout = "iso8601" }', "", "route.0", "give ts_event"),
    "no layout": (', layout = "iso8601"', "", "route.0", "ts_event: give its layout, or its unit"),
    "naive time": ('"iso8601"', '"%Y-%m-%d %H:%M:%S"', "route.0", "ts_event: a local time needs a zone"),
    "time without a day": ('"iso8601"', '"%H:%M:%S", zone = "UTC"', "route.0", "a time of day needs a date"),
    "day given twice": ('"iso8601"', '"iso8601", date = "day"', "route.0", "its day is given twice"),
    "bad layout": ('"iso8601"', '"%Y-%q"', "layout|route.0", "%q is not known"),
    "python's %f": ('"iso8601"', '"%Y-%m-%d %H:%M:%S.%f"', "route.0", "instead of %f"),
    "layout and unit": ('"iso8601"', '"iso8601", unit = "s"', "route.0", "not both"),
    "zone": ('"iso8601"', '"iso8601", zone = "Sydney"', "route.0", "'Sydney' is not an IANA time zone"),
    "offset": ('"iso8601"', '"iso8601", offset = "+5"', "route.0", "'+5' is not an offset such as"),
    "zone and offset": ('"iso8601"', '"iso8601", offset = "+05:00", zone = "UTC"', "route.0", "not both"),
    "float scale": (
        'price = "price"',
        'price = { column = "price", scale = 0.1 }',
        "scale",
        "write the number as text",
    ),
    "tick alone": ('price = "price"', 'price = { column = "price", tick = "0.1" }', "price", "go together"),
    "number key of a text": (
        '{ constant = "S" }',
        '{ constant = "S", scale = "2" }',
        "route.0",
        "symbol: scale means nothing",
    ),
    "time key of a number": (
        'price = "price"',
        'price = { column = "price", layout = "%Y" }',
        "route.0",
        "price: layout means",
    ),
    "regex": ('{ constant = "S" }', "{ path = '(x' }", "symbol", "is not a regular expression"),
    "regex without group": ('{ constant = "S" }', "{ path = 'x' }", "symbol", "needs a group"),
    "look-around": ('{ constant = "S" }', "{ column = 'time', extract = '(?=x)(x)' }", "symbol", "look-around"),
    "no test": ('table = "trades"', 'table = "trades"\nwhen = { column = "time" }', "when", "equals, in, matches"),
    "lookup": (
        '{ constant = "S" }',
        '{ column = "time", lookup = { from = "a", to = "b" } }',
        "lookup",
        "give `table` or `file`",
    ),
    "encoding": ("[file]", "[file]\nencoding = 'utf-99'", "file", "'utf-99' is not an encoding"),
    "delimiter": ("[file]", "[file]\ndelimiter = '||'", "file", "delimiter is one character"),
    "no columns": ('columns = ["time", "price"]', "header = false", "file", "needs columns"),
    "paths": ("[file]", "[file]\nformat = 'ndjson'", "file", "json.path"),
    "no TOML": ("[file]", "[file", "own.toml", "is not TOML"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, name: str) -> None:
    old, new, where, problem = WRONG[name]
    if name == "unknown key":
        old, new = "[file]", "colour = 1\n[file]"
        where = "colour"
    with pytest.raises(ProfileError) as caught:
        profile_of(tmp_path, PLAIN.replace(old, new))
    assert any(each in f"{caught.value.where} {caught.value.problem}" for each in where.split("|"))
    assert problem in str(caught.value)
