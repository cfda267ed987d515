"""The session rule and the declaration of venues.

Instants are written in UTC and sessions by hand: nothing expected here comes from the code under test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2kernel.calendars import ASSET_CLASSES, Venue, session_expr, session_of, venue, venues
from k2kernel.errors import InvalidParameter, UnknownVenue
from k2kernel.times import to_ns
from tests.support import ROOT

SYDNEY_SUMMER_TO_WINTER = [  # 2014-04-06 03:00 became 02:00 in Sydney; +11 before, +10 after
    ("XASX", "2014-04-04T12:59:59.999999Z", "2014-04-04"),
    ("XASX", "2014-04-04T13:00:00Z", "2014-04-05"),
    ("XASX", "2014-04-06T13:59:59.999999Z", "2014-04-06"),
    ("XASX", "2014-04-06T14:00:00Z", "2014-04-07"),
]
SYDNEY_WINTER_TO_SUMMER = [  # 2014-10-05 02:00 became 03:00
    ("XASX", "2014-10-03T13:59:59.999999Z", "2014-10-03"),
    ("XASX", "2014-10-03T14:00:00Z", "2014-10-04"),
    ("XASX", "2014-10-05T12:59:59.999999Z", "2014-10-05"),
    ("XASX", "2014-10-05T13:00:00Z", "2014-10-06"),
]
SYDNEY_DAY_OVER_TWO_UTC_DATES = [  # opens 10:00 = 23:00Z of the day before, closes 16:00 = 05:00Z
    ("XASX", "2014-03-09T23:00:00Z", "2014-03-10"),
    ("XASX", "2014-03-10T05:00:00Z", "2014-03-10"),
]
NEW_YORK = [  # 2024-03-10 02:00 became 03:00, 2024-11-03 02:00 became 01:00
    ("XNYS", "2024-03-09T04:59:59Z", "2024-03-08"),
    ("XNYS", "2024-03-09T05:00:00Z", "2024-03-09"),
    ("XNYS", "2024-03-11T03:59:59Z", "2024-03-10"),
    ("XNYS", "2024-03-11T04:00:00Z", "2024-03-11"),
    ("XNYS", "2024-11-02T03:59:59Z", "2024-11-01"),
    ("XNYS", "2024-11-02T04:00:00Z", "2024-11-02"),
    ("XNYS", "2024-11-04T04:59:59Z", "2024-11-03"),
    ("XNYS", "2024-11-04T05:00:00Z", "2024-11-04"),
]
FX_SUMMER = [  # 17:00 in New York is 21:00Z
    ("FXCM", "2014-05-07T20:59:59.999999Z", "2014-05-07"),
    ("FXCM", "2014-05-07T21:00:00Z", "2014-05-08"),
    ("OANDA", "2014-05-11T21:00:00Z", "2014-05-12"),  # Sunday evening opens Monday
]
FX_WINTER = [  # 17:00 in New York is 22:00Z
    ("FXCM", "2014-01-07T21:59:59.999999Z", "2014-01-07"),
    ("FXCM", "2014-01-07T22:00:00Z", "2014-01-08"),
    ("DUKASCOPY", "2014-01-07T22:00:00Z", "2014-01-08"),
]
FX_ON_THE_DAY_THE_CLOCKS_CHANGE = [
    ("FXCM", "2024-03-10T20:59:59Z", "2024-03-10"),
    ("FXCM", "2024-03-10T21:00:00Z", "2024-03-11"),
    ("FXCM", "2024-11-03T21:59:59Z", "2024-11-03"),
    ("FXCM", "2024-11-03T22:00:00Z", "2024-11-04"),
]
FUTURES_EVENING = [  # 17:00 in Chicago
    ("XCME", "2024-07-01T21:59:59Z", "2024-07-01"),
    ("XCME", "2024-07-01T22:00:00Z", "2024-07-02"),
]
ELSEWHERE = [
    ("BINANCE", "2024-08-08T23:59:59.999999Z", "2024-08-08"),
    ("BINANCE", "2024-08-09T00:00:00Z", "2024-08-09"),
    ("XSHG", "2023-07-11T01:15:00Z", "2023-07-11"),
    ("XSHG", "2023-07-10T16:00:00Z", "2023-07-11"),
    ("XBOM", "2024-01-01T18:30:00Z", "2024-01-02"),  # half-hour offset
    ("XNYS", "1969-12-31T23:30:00Z", "1969-12-31"),  # before 1970
]
KNOWN = [
    *SYDNEY_SUMMER_TO_WINTER,
    *SYDNEY_WINTER_TO_SUMMER,
    *SYDNEY_DAY_OVER_TWO_UTC_DATES,
    *NEW_YORK,
    *FX_SUMMER,
    *FX_WINTER,
    *FX_ON_THE_DAY_THE_CLOCKS_CHANGE,
    *FUTURES_EVENING,
    *ELSEWHERE,
]


def sessions(code: str, instants: list[datetime | None]) -> list[date | None]:
    frame = pl.DataFrame({"ts_event": pl.Series(instants, dtype=pl.Datetime("us", "UTC"))})
    return frame.select(session_expr(venue(code), "ts_event")).to_series().to_list()


@pytest.mark.parametrize(("code", "instant", "expected"), KNOWN)
def test_session_of_an_instant(code: str, instant: str, expected: str) -> None:
    moment = datetime.fromisoformat(instant)
    assert sessions(code, [moment]) == [date.fromisoformat(expected)]
    assert session_of(venue(code), to_ns(moment)) == date.fromisoformat(expected)


def test_session_expr_keeps_nulls_and_takes_an_expression() -> None:
    assert sessions("XASX", [None, datetime(2014, 3, 9, 23, tzinfo=UTC)]) == [None, date(2014, 3, 10)]
    frame = pl.DataFrame({"ns": [1_394_406_000_000_000_000]})  # 2014-03-09T23:00:00Z
    instants = pl.from_epoch("ns", time_unit="ns").dt.replace_time_zone("UTC")
    assert frame.select(session_expr(venue("XASX"), instants)).item() == date(2014, 3, 10)


@given(
    code=st.sampled_from(["XASX", "XNYS", "FXCM", "XCME", "XLON", "BVMF", "XTAE", "BINANCE"]),
    moment=st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_both_forms_of_the_rule_agree(code: str, moment: datetime) -> None:
    assert sessions(code, [moment]) == [session_of(venue(code), to_ns(moment))]


@pytest.mark.parametrize("zone", ["UTC", "Australia/Sydney", "America/New_York", "Pacific/Kiritimati"])
def test_sessions_do_not_depend_on_the_zone_of_the_machine(zone: str) -> None:
    script = (
        "from datetime import datetime; import polars as pl; from k2kernel.calendars import session_expr, venue\n"
        f"known = {KNOWN!r}\n"
        "for code, instant, expected in known:\n"
        "    frame = pl.DataFrame({'t': [datetime.fromisoformat(instant)]})\n"
        "    assert str(frame.select(session_expr(venue(code), 't')).item()) == expected, (code, instant)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"TZ": zone}, cwd=ROOT, check=False)
    assert done.returncode == 0


def test_shipped_venues_are_sound() -> None:
    known = venues()
    assert len(known) > 100
    for code, entry in known.items():
        assert entry.code == code
        assert entry.code.isascii()
        assert entry.name
        assert entry.asset_class in ASSET_CLASSES
        frame = pl.DataFrame({"t": [datetime(2024, 7, 1, tzinfo=UTC)]})
        polars_date = frame.select(session_expr(entry, "t")).item()
        assert polars_date == session_of(entry, to_ns(datetime(2024, 7, 1, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("code", "zone", "roll_hours", "calendar"),
    [
        ("XASX", "Australia/Sydney", 0, "XASX"),
        ("XSHE", "Asia/Shanghai", 0, "XSHG"),
        ("XNAS", "America/New_York", 0, "XNYS"),
        ("XKRX", "Asia/Seoul", 0, "XKRX"),
        ("XCME", "America/Chicago", 7, "CMES"),
        ("OANDA", "America/New_York", 7, "24/5"),
        ("BINANCE_USDM", "UTC", 0, "24/7"),
    ],
)
def test_shipped_venue(code: str, zone: str, roll_hours: float, calendar: str | None) -> None:
    found = venue(code)
    assert (found.zone, found.roll_hours, found.calendar) == (zone, roll_hours, calendar)


def test_no_code_is_declared_twice_by_two_spellings() -> None:
    codes = [code.casefold() for code in venues()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("asked", "offered"), [("ASX", "XASX"), ("xasx", "XASX"), ("NASDAQ", "XNAS"), ("BINANCE_USD", "BINANCE_USDM")]
)
def test_unknown_venue_offers_what_was_meant_and_the_line_to_add(asked: str, offered: str) -> None:
    with pytest.raises(UnknownVenue) as caught:
        venue(asked)
    assert caught.value.near[0] == offered
    assert f"{asked!r} is not declared (like it: {offered}" in str(caught.value)
    assert f'[{asked}] and under it zone = "Area/City"' in str(caught.value)


def test_unknown_venue_with_nothing_like_it() -> None:
    with pytest.raises(UnknownVenue, match=r"'QQQQQQ9' is not declared\. Add to venues\.toml"):
        venue("QQQQQQ9")


def test_the_line_that_the_error_shows_declares_the_venue(tmp_path: Path) -> None:
    (tmp_path / "venues.toml").write_text('[HOUSE]\nzone = "Asia/Kathmandu"\n', encoding="utf-8")
    assert venue("HOUSE", tmp_path) == Venue("HOUSE", "Asia/Kathmandu")
    assert venue("XASX", tmp_path) == venue("XASX")
    with pytest.raises(UnknownVenue):
        venue("HOUSE")


def test_user_file_replaces_a_shipped_venue_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    user = tmp_path / "venues.toml"
    assert venue("FXCM", tmp_path).roll_hours == 7
    user.write_text('FXCM = { zone = "America/New_York", roll_hours = 0 }', encoding="utf-8")
    assert venue("FXCM", tmp_path).roll_hours == 0
    user.write_text('FXCM = { zone = "America/New_York", roll_hours = 6.5 }', encoding="utf-8")
    assert venue("FXCM", tmp_path).roll_hours == 6.5
    user.unlink()
    assert venue("FXCM", tmp_path).roll_hours == 7


def test_the_dictionary_of_venues_is_the_callers_own() -> None:
    venues().clear()
    assert "XASX" in venues()


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ('[A]\nzone = "Mars/Olympus"', "A.zone", "is not an IANA time zone"),
        ('[A]\nzone = "../etc/passwd"', "A.zone", "is not an IANA time zone"),
        ('[A]\nzone = "Australia"', "A.zone", "is not an IANA time zone"),
        ('[A]\nzone = "localtime"', "A.zone", "is not an IANA time zone"),
        ('[A]\nzone = ""', "A.zone", "is not an IANA time zone"),
        ("[A]\nzone = 10", "A.zone", "is not an IANA time zone"),
        ('[A]\nzone = "UTC"\nroll_hours = "7"', "A.roll_hours", "is not a number of hours"),
        ('[A]\nzone = "UTC"\nroll_hours = 24', "A.roll_hours", "is not a number of hours"),
        ('[A]\nzone = "UTC"\nroll_hours = nan', "A.roll_hours", "is not a number of hours"),
        ('[A]\nzone = "UTC"\nroll_hours = true', "A.roll_hours", "is not a number of hours"),
        ('[A]\nzone = "UTC"\nasset_class = "shares"', "A.asset_class", "is none of equity"),
        ('[A]\nzone = "UTC"\ncalendar = 5', "A.calendar", "is not a text"),
        ('[A]\nzone = "UTC"\naliases = "B"', "A.aliases", "is not a list of texts"),
        ('[A]\nzone = "UTC"\nrol_hours = 7', "A.rol_hours", "is not a setting of a venue"),
        ("[A]\nroll_hours = 7", "A", "has no zone"),
        ('A = "UTC"', "A", "is not a table of settings"),
        ("[A\n", "venues", "is not TOML"),
    ],
)
def test_a_wrong_user_file_is_named_with_the_key(tmp_path: Path, text: str, key: str, problem: str) -> None:
    user = tmp_path / "venues.toml"
    user.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidParameter) as caught:
        venues(tmp_path)
    sentence = str(caught.value)
    assert str(user) in sentence
    assert key in sentence
    assert problem in sentence


def test_shipped_file_has_one_line_a_venue_and_only_zones_that_exist() -> None:
    text = (ROOT / "k2kernel" / "venues.toml").read_text(encoding="utf-8")
    entries = tomllib.loads(text)
    assert sum(" = {" in line for line in text.splitlines()) == len(entries)
    assert all(ZoneInfo(entry["zone"]) for entry in entries.values())
