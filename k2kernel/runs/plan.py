"""When a job is due: `schedules.toml`, cron expressions in a named zone, and the close of a venue's session."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from k2kernel.calendars import Venue, opening_hours, venue
from k2kernel.errors import FileFault, InvalidParameter, extra, listed, meant, one_of
from k2kernel.times import NS, parse_duration

CATCH_UP = ("last", "all", "none")
"""What becomes of times that were missed: the newest is made up for, every one in order, or none."""

_AFTER = re.compile(r"(?:(\S+) )?after (\S+) close")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SORTS = {
    "maintain": (str, 'text, such as "all"'),
    "parameters": (dict, 'a table, such as { symbol = "BHP" }'),
    "retries": (int, "a whole number, such as 2"),
}
"""What a word of a job is where it is no text."""
_AHEAD = timedelta(days=20)
"""No venue is closed for longer."""


@dataclass(frozen=True)
class Job:
    """One entry of `schedules.toml`: a `notebook` to run with `parameters`, or tables to `maintain` (`all`: each).

    `when` is a cron expression (minute, hour, day, month, weekday) on the clock of `zone`, or `after XASX close`, also
    with a delay before it, such as `30m after XASX close`. A failed run is tried again `retries` times, `wait` apart.
    In a parameter `{session}` stands for the date that a time is of: the session that closed, or the day in the zone.
    """

    name: str
    when: str
    zone: str = "UTC"
    notebook: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    maintain: str | None = None
    retries: int = 2
    wait: str = "1m"
    catch_up: str = "last"
    webhook: str | None = None

    @property
    def wait_s(self) -> float:
        """Seconds between two attempts."""
        return parse_duration(self.wait, "wait") / NS

    def given(self, session: date) -> dict[str, Any]:
        """The parameters of a run for a session."""
        return {
            name: value.replace("{session}", session.isoformat()) if isinstance(value, str) else value
            for name, value in self.parameters.items()
        }


class Times:
    """The times at which a job is due."""

    def __init__(self, job: Job, home: Path) -> None:
        self._zone = _zone(job)
        found = _AFTER.fullmatch(job.when)
        self._venue: Venue | None = None
        if found is None:
            self._cron = _cron(job, self._zone)
            return
        self._venue = venue(found[2], home)
        self._delay = timedelta(microseconds=parse_duration(found[1], "when") // 1_000 if found[1] else 0)

    def after(self, moment: datetime) -> datetime:
        """The first time (UTC) that is later than a moment."""
        if self._venue is None:
            due: datetime = self._cron.get_next_fire_time(None, moment + timedelta(microseconds=1))
            return due.astimezone(UTC)
        first = (moment - self._delay).date() - timedelta(days=2)
        closes: list[datetime] = opening_hours(self._venue, first, first + _AHEAD)["close"].to_list()
        return next(close + self._delay for close in closes if close + self._delay > moment)

    def between(self, moment: datetime, until: datetime) -> list[datetime]:
        """The times after a moment, up to and with `until`."""
        found = []
        while (moment := self.after(moment)) <= until:
            found.append(moment)
        return found

    def session(self, due: datetime) -> date:
        """The date that a time is of."""
        if self._venue is None:
            return due.astimezone(self._zone).date()
        day = due.date()
        hours = opening_hours(self._venue, day - timedelta(days=4), day + timedelta(days=1))
        found: date = hours.filter(hours["close"] <= due - self._delay)["session"][-1]
        return found


def load(path: Path) -> list[Job]:
    """The jobs of a `schedules.toml`; FileFault where it is none, InvalidParameter for what a job cannot have.

    A notebook's path is that of the file's folder.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise FileFault(str(path), f"cannot be read: {exc}", "Give a TOML file with a table for each job") from exc
    return [_job(path, name, table) for name, table in tables.items()]


def _job(path: Path, name: str, table: Any) -> Job:
    known = [each.name for each in fields(Job) if each.name != "name"]
    if not isinstance(table, dict):
        raise InvalidParameter("schedule", name, "is no table", f"Write [{name}] and under it when = …")
    for key in table.keys() - set(known):
        raise InvalidParameter(
            "schedule", f"{name}.{key}", "is no word of a job", f"{meant(key, known)}{listed(known)}"
        )
    for key, value in table.items():
        sort, told = _SORTS.get(key, (str, "text in quotes"))
        if not isinstance(value, sort) or isinstance(value, bool):
            raise InvalidParameter("schedule", f"{name}.{key}", f"is given as {value!r}", f"Give {told}")
    if "when" not in table or ("notebook" in table) == ("maintain" in table):
        raise InvalidParameter("schedule", name, "is not a job", "Give `when`, and one of `notebook` and `maintain`")
    job = Job(name, **table)
    one_of("catch_up", job.catch_up, CATCH_UP)
    if job.retries < 0:
        raise InvalidParameter("retries", job.retries, "is below 0", "Give 0 for one attempt")
    parse_duration(job.wait, "wait")
    if not str(job.webhook or "https://").startswith(("http://", "https://")):
        raise InvalidParameter("webhook", job.webhook, "is no address", "Write it like https://host/path")
    if job.notebook is None:
        return job
    return Job(name, **{**table, "notebook": str((path.parent / job.notebook).resolve())})


def _zone(job: Job) -> ZoneInfo:
    try:
        return ZoneInfo(job.zone)
    except (ZoneInfoNotFoundError, ValueError) as exc:
        raise InvalidParameter("zone", job.zone, "is no time zone", "Write it like Australia/Sydney") from exc


def _cron(job: Job, zone: ZoneInfo) -> Any:
    """APScheduler's trigger, which counts weekdays from Monday where cron counts from Sunday."""
    with extra("notebook", "APScheduler"):
        from apscheduler.triggers.cron import CronTrigger
    parts = job.when.split()
    if len(parts) == 5 and parts[2] != "*" and parts[4] != "*":
        raise InvalidParameter(
            "when", job.when, "has a day of the month and a weekday", "Give one, and * for the other"
        )
    try:
        minute, hour, day, month, weekday = parts
        named = ",".join(_weekdays(part) for part in weekday.split(","))
        return CronTrigger(minute=minute, hour=hour, day=day, month=month, day_of_week=named, timezone=zone)
    except ValueError as exc:
        remedy = "Write five fields, such as 0 18 * * mon-fri, or after XASX close"
        raise InvalidParameter("when", job.when, f"is no time: {exc}", remedy) from exc


def _weekdays(part: str) -> str:
    """A part of the weekday field with its numbers (0 and 7: Sunday) as names."""
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if not first.isdigit():
        return part
    if not dash:
        return _DAYS[int(first) % 7] + slash + step
    days = range(int(first), int(last) + 1, int(step or 1))
    return ",".join(dict.fromkeys(_DAYS[day % 7] for day in days))
