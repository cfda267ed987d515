"""When venues trade. Opens and closes are written by hand, in local time with its offset, from what venues publish."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import exchange_calendars
import polars as pl
import pytest

from k2kernel.calendars import opening_hours, trading, unsure, venue, venues
from k2kernel.calendars.hours import _calendar
from k2kernel.errors import InvalidParameter
from tests.query_lake import utc
from tests.support import ROOT

NEW_YORK_SPRING = [  # the clocks went forward on Sunday 2014-03-09
    ("XNYS", "2014-03-07", "2014-03-07T09:30-05:00", "2014-03-07T16:00-05:00"),
    ("XNYS", "2014-03-10", "2014-03-10T09:30-04:00", "2014-03-10T16:00-04:00"),
]
NEW_YORK_AUTUMN = [  # and back on Sunday 2014-11-02
    ("XNAS", "2014-10-31", "2014-10-31T09:30-04:00", "2014-10-31T16:00-04:00"),
    ("XNAS", "2014-11-03", "2014-11-03T09:30-05:00", "2014-11-03T16:00-05:00"),
]
SYDNEY_AUTUMN = [  # back on Sunday 2014-04-06
    ("XASX", "2014-04-04", "2014-04-04T10:00+11:00", "2014-04-04T16:00+11:00"),
    ("XASX", "2014-04-07", "2014-04-07T10:00+10:00", "2014-04-07T16:00+10:00"),
]
SYDNEY_SPRING = [  # forward on Sunday 2014-10-05; Monday was Labour Day in Sydney, on which the ASX trades
    ("XASX", "2014-10-03", "2014-10-03T10:00+10:00", "2014-10-03T16:00+10:00"),
    ("XASX", "2014-10-06", "2014-10-06T10:00+11:00", "2014-10-06T16:00+11:00"),
]
LONDON = [("XLON", "2014-03-28", "2014-03-28T08:00Z", "2014-03-28T16:30Z")]
LONDON_SUMMER = [("XLON", "2014-03-31", "2014-03-31T08:00+01:00", "2014-03-31T16:30+01:00")]
FX = [  # sessions end at 17:00 in New York: Sunday evening begins Monday, and the clocks change on a Sunday
    ("OANDA", "2014-03-07", "2014-03-06T17:00-05:00", "2014-03-07T17:00-05:00"),
    ("OANDA", "2014-03-10", "2014-03-09T17:00-04:00", "2014-03-10T17:00-04:00"),
    ("FXCM", "2014-11-03", "2014-11-02T17:00-05:00", "2014-11-03T17:00-05:00"),
]
CRYPTO = [("BINANCE", "2024-08-10", "2024-08-10T00:00Z", "2024-08-11T00:00Z")]  # a Saturday
FUTURES = [("XCME", "2014-03-10", "2014-03-09T17:00-05:00", "2014-03-10T17:00-05:00")]
NO_CALENDAR = [("XLME", "2014-03-30", "2014-03-30T00:00Z", "2014-03-31T00:00+01:00")]  # 23 hours
WHOLE = [*NEW_YORK_SPRING, *NEW_YORK_AUTUMN, *SYDNEY_AUTUMN, *SYDNEY_SPRING, *LONDON, *LONDON_SUMMER]
WHOLE += [*FX, *CRYPTO, *FUTURES, *NO_CALENDAR]

EARLY = [
    ("XNYS", "2013-11-29", "2013-11-29T13:00-05:00"),  # the day after Thanksgiving
    ("XNYS", "2014-07-03", "2014-07-03T13:00-04:00"),
    ("XNAS", "2014-12-24", "2014-12-24T13:00-05:00"),
    ("XASX", "2013-12-24", "2013-12-24T14:10+11:00"),
    ("XASX", "2014-12-31", "2014-12-31T14:10+11:00"),
    ("XHKG", "2013-12-24", "2013-12-24T12:00+08:00"),  # and no lunch
    ("XLON", "2014-12-24", "2014-12-24T12:30Z"),
]
BREAKS = [
    ("XTKS", "2014-03-10", "09:00 11:30 12:30 15:00", "+09:00"),
    ("XTKS", "2024-11-05", "09:00 11:30 12:30 15:30", "+09:00"),  # half an hour longer from that day on
    ("XHKG", "2014-03-10", "09:30 12:00 13:00 16:00", "+08:00"),
    ("XSHG", "2023-07-11", "09:30 11:30 13:00 15:00", "+08:00"),
    ("XSHE", "2023-07-11", "09:30 11:30 13:00 15:00", "+08:00"),
    ("XSTC", "2023-07-11", "09:00 11:30 13:00 14:45", "+07:00"),  # by its own line: it has no calendar
]
CLOSED = [
    ("XNYS", "2014-07-04"),
    ("XNYS", "2001-09-12"),
    ("XASX", "2014-04-25"),
    ("XTKS", "2020-10-01"),  # the system was down
    ("XSHG", "2023-10-02"),
    ("OANDA", "2014-03-08"),  # Saturday
    ("XLON", "2014-03-30"),
]


def hours(code: str, first: str, last: str | None = None, home: Path | None = None) -> pl.DataFrame:
    return opening_hours(venue(code, home), date.fromisoformat(first), date.fromisoformat(last or first))


@pytest.mark.parametrize(("code", "session", "opens", "closes"), WHOLE)
def test_opens_and_closes(code: str, session: str, opens: str, closes: str) -> None:
    (row,) = hours(code, session).rows(named=True)
    assert (row["open"], row["close"]) == (utc(opens), utc(closes))
    assert (row["break_start"], row["break_end"], row["early"]) == (None, None, False)
    assert row["by"] == ("zone" if code == "XLME" else "calendar")


@pytest.mark.parametrize(("code", "session", "closes"), EARLY)
def test_early_closes(code: str, session: str, closes: str) -> None:
    (row,) = hours(code, session).rows(named=True)
    assert (row["close"], row["early"], row["break_start"], row["by"]) == (utc(closes), True, None, "calendar")


@pytest.mark.parametrize(("code", "session", "times", "offset"), BREAKS)
def test_lunch_breaks(code: str, session: str, times: str, offset: str) -> None:
    row = hours(code, session).row(0, named=True)
    found = [row[name] for name in ("open", "break_start", "break_end", "close")]
    assert found == [utc(f"{session}T{time}{offset}") for time in times.split()]


@pytest.mark.parametrize(("code", "session"), CLOSED)
def test_days_without_a_session(code: str, session: str) -> None:
    assert hours(code, session).is_empty()


def test_a_range_has_its_sessions_in_order_over_the_end_of_a_year() -> None:
    found = hours("XNYS", "2013-12-30", "2014-01-03")
    assert [day.isoformat()[5:] for day in found["session"]] == ["12-30", "12-31", "01-02", "01-03"]
    assert hours("XNYS", "2014-01-03", "2013-12-30").is_empty()
    instant = pl.Datetime("us", "UTC")
    assert dict(found.schema) == {
        "session": pl.Date(),
        **dict.fromkeys(("open", "close", "break_start", "break_end"), instant),
        "early": pl.Boolean(),
        "by": pl.String(),
    }


@pytest.mark.parametrize("zone", ["UTC", "Australia/Sydney", "America/New_York"])
def test_hours_do_not_depend_on_the_zone_of_the_machine(zone: str) -> None:
    script = (
        "from datetime import date, datetime; from k2kernel.calendars import opening_hours, venue\n"
        f"for code, session, opens, closes in {WHOLE!r}:\n"
        "    day = date.fromisoformat(session)\n"
        "    row = opening_hours(venue(code), day, day).row(0, named=True)\n"
        "    wanted = datetime.fromisoformat(opens), datetime.fromisoformat(closes)\n"
        "    assert (row['open'], row['close']) == wanted, (code, session)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env=os.environ | {"TZ": zone}, cwd=ROOT, check=False)
    assert done.returncode == 0


def test_years_that_a_calendar_does_not_cover_have_the_usual_hours_and_say_so() -> None:
    found = hours("XSHG", "2026-12-31", "2027-01-05")
    assert [(str(day), by) for day, by in found.select("session", "by").rows()] == [
        ("2026-12-31", "calendar"),
        ("2027-01-01", "zone"),  # a holiday that nobody knows of; Saturday and Sunday are left out
        ("2027-01-04", "zone"),
        ("2027-01-05", "zone"),
    ]
    last = found.row(3, named=True)
    assert [last[name] for name in ("open", "break_start", "break_end", "close")] == [
        utc(f"2027-01-05T{time}+08:00") for time in ("09:30", "11:30", "13:00", "15:00")
    ]
    days = found["session"].to_list()
    assert unsure(venue("XSHG"), days[:1]) is None
    assert unsure(venue("XSHG"), days) == (
        "XSHG: the calendar XSHG covers 1990-12-03 to 2026-12-31, so 2027-01-01 to 2027-01-05 have the usual hours, "
        "with holidays and early closes unknown"
    )


def test_the_usual_hours_are_those_of_the_time() -> None:
    found = hours("XHKG", "1969-03-10").row(0, named=True)  # before 1970, when calendars begin here; it opened at 10:00
    assert (found["open"], found["by"]) == (utc("1969-03-10T10:00+08:00"), "zone")


def test_a_venue_without_a_calendar_says_so() -> None:
    assert unsure(venue("XLME"), [date(2014, 3, 10)]) == (
        "XLME: no calendar is declared, so every day is taken for a session, whole"
    )
    assert "from 09:00 to 14:45" in str(unsure(venue("XSTC"), [date(2014, 3, 10)]))
    assert unsure(venue("BINANCE"), [date(2014, 3, 9)]) is None


def test_a_calendar_that_the_library_cannot_make_is_no_error() -> None:
    """Of 4.13 under pandas 3: when this fails, the `hours` of those venues can go."""
    for code in ("XTAE", "ASEX", "XBEL", "XBSE", "XCYS"):
        assert f"exchange_calendars cannot make {code}, so every day" in str(unsure(venue(code), [date(2014, 3, 10)]))
    (row,) = hours("XTAE", "2014-03-10").rows(named=True)
    assert (row["open"], row["by"]) == (utc("2014-03-10T09:59+02:00"), "zone")


def test_a_users_venue_has_the_hours_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "venues.toml").write_text(
        'NIGHT = { zone = "America/Chicago", roll_hours = 7, hours = ["17:00", "16:00"] }\n'
        'DAYS = { zone = "Asia/Tokyo", calendar = "24/5", hours = ["09:00", "15:00"] }\n'
        'WRONG = { zone = "UTC", calendar = "MOON" }\n'
    )
    night = hours("NIGHT", "2014-03-10", home=tmp_path).row(0, named=True)
    assert (night["open"], night["close"]) == (utc("2014-03-09T17:00-05:00"), utc("2014-03-10T16:00-05:00"))
    days = hours("DAYS", "2014-03-08", "2014-03-10", home=tmp_path)
    assert days.select("open", "by").rows() == [(utc("2014-03-10T09:00+09:00"), "calendar")]
    with pytest.raises(InvalidParameter, match=r"MOON.*exchange_calendars.*venues\.toml"):
        hours("WRONG", "2014-03-10", home=tmp_path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('hours = ["9:30", "16:00"]', "hours"),
        ('hours = ["09:30"]', "hours"),
        ('hours = "09:30-16:00"', "hours"),
        ('auctions = ["close 16:10"]', "auctions"),
        ('auctions = ["close 0:12..0:10"]', "auctions"),
        ('auctions = ["noon 0:00..0:10"]', "auctions"),
    ],
)
def test_wrong_hours_in_a_users_file_are_named(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "venues.toml").write_text(f'[A]\nzone = "UTC"\n{line}\n')
    with pytest.raises(InvalidParameter, match=rf"A\.{problem}.*is not"):
        venues(tmp_path)


def of_day(code: str, day: str, *, auctions: bool = False) -> list[tuple[str, str]]:
    """The intervals in UTC, as times of day; a time of the day before has a minus in front."""
    session = date.fromisoformat(day)
    found = trading(venue(code), [session], auctions=auctions)[session]
    midnight = datetime(session.year, session.month, session.day, tzinfo=UTC)

    def text(us: int) -> str:
        moment = midnight + timedelta(microseconds=us)
        return ("" if moment.date() == session else "-") + moment.strftime("%H:%M:%S")

    return [(text(start), text(end)) for start, end in found]


def test_intervals_leave_breaks_out_and_take_auctions_in() -> None:
    assert of_day("XSHG", "2023-07-11") == [("01:30:00", "03:30:00"), ("05:00:00", "07:00:00")]
    assert of_day("XSHG", "2023-07-11", auctions=True) == [("01:25:00", "03:30:00"), ("05:00:00", "07:05:00")]
    assert of_day("XASX", "2014-03-11", auctions=True) == [("-22:59:45", "05:00:00"), ("05:10:00", "05:12:00")]
    assert of_day("XASX", "2014-12-24", auctions=True) == [("-22:59:45", "03:10:00"), ("03:20:00", "03:22:00")]
    assert of_day("XNYS", "2013-11-29", auctions=True) == [("14:30:00", "18:00:08")]
    assert of_day("XTKS", "2014-03-10", auctions=True) == [("00:00:00", "02:31:00"), ("03:30:00", "06:01:00")]
    assert trading(venue("XNYS"), [date(2014, 7, 4)]) == {}


def test_every_calendar_that_a_shipped_venue_names_exists() -> None:
    named = {entry.calendar for entry in venues().values() if entry.calendar}

    assert named <= set(exchange_calendars.get_calendar_names())


def test_every_shipped_venue_has_hours_within_its_sessions() -> None:
    """One calendar of each kind is made: to make all would take half a minute."""
    for code in ("XASX", "XNYS", "XCBO", "XCME", "XCBF", "XBOM", "OANDA", "BITFLYER", "XLME"):
        for row in hours(code, "2024-03-01", "2024-03-31").rows(named=True):
            entry = venue(code)
            start = datetime.fromisoformat(row["session"].isoformat()) - timedelta(hours=entry.roll_hours)
            edges = pl.Series([row["open"], row["close"]]).dt.convert_time_zone(entry.zone).dt.replace_time_zone(None)
            assert start <= edges[0] < edges[1] <= start + timedelta(days=1), (code, row)


def test_the_shipped_file_explains_every_setting() -> None:
    text = (ROOT / "k2kernel/venues.toml").read_text(encoding="utf-8")
    used = {key for entry in tomllib.loads(text).values() for key in entry}
    assert all(f"\n#   {key} " in text for key in used)


def test_calendars_are_made_by_several_threads_without_a_warning() -> None:
    """Warnings are errors here, and what silences them is one switch for all threads."""
    _calendar.cache_clear()
    names = ("XBUE", "XWBO", "XOSL", "XHEL", "XDUB", "XPRA", "XBUD", "XWAR")
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(_calendar, names))
