"""Doing jobs when they are due: once each, never beside themselves, retried at the same states, failures told."""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import rmtree
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from k2kernel.errors import K2Error, extra
from k2kernel.metrics import METRICS
from k2kernel.runs.plan import Job, Times
from k2kernel.runs.record import Run, packages
from k2kernel.runs.run import again, new_folder, run

if TYPE_CHECKING:
    from k2kernel.workbench import Workbench

_LOG = logging.getLogger("k2kernel.schedule")
_MISSED = timedelta(minutes=1)
"""A time that is older was missed."""

_WEBHOOK_S = 10
_KEPT = 100
"""Records of maintenance, of each job."""
_STATE, _LOCK = "schedule.json", "schedule.lock"


class Schedule:
    """The jobs of a lake. A time is done when its run has ended, so one that a crash cut short is made up for.

    After downtime (or a run that took longer than the time between two) each job's `catch_up` holds: `last`, the newest
    missed time only; `all`, every one, oldest first; `none`, only a time of the last minute. A job that is new has
    missed nothing. `told` hears of every run that ended, as its `Run`.
    """

    def __init__(self, bench: Workbench, jobs: Iterable[Job], told: Callable[[Run], object] | None = None) -> None:
        self._bench, self._told = bench, told or (lambda _: None)
        self.jobs = {job.name: job for job in jobs}
        self._times = {name: Times(job, bench.settings.home) for name, job in self.jobs.items()}
        self._stopped, self._writing = threading.Event(), threading.Lock()

    def coming(self, count: int = 1, now: datetime | None = None) -> list[tuple[datetime, Job]]:
        """The next times (UTC) of each job, in order of time."""
        found = []
        for name, job in self.jobs.items():
            moment = now or datetime.now(UTC)
            for _ in range(count):
                moment = self._times[name].after(moment)
                found.append((moment, job))
        return sorted(found, key=lambda one: one[0])

    def once(self, now: datetime | None = None) -> list[Run]:
        """Do what is due by now (UTC), job by job, and return; K2Error where another schedule runs on this lake."""
        with self._alone():
            return [done for job in self.jobs.values() for done in self._work(job, now or datetime.now(UTC))]

    def run(self) -> None:
        """Do each job when it is due, at most one run of each at a time, until `stop`."""
        with extra("notebook", "APScheduler"):
            from apscheduler.schedulers.background import BackgroundScheduler
        scheduler = BackgroundScheduler(timezone=UTC)

        def turn(job: Job) -> None:
            try:
                for _ in self._work(job, datetime.now(UTC)):
                    pass
            except Exception:  # noqa: BLE001 - one that fails in a new way must not end the others
                _LOG.exception("%s", job.name)
            finally:  # the next turn is set only now, so a job never runs beside itself
                if not self._stopped.is_set():
                    due = self._times[job.name].after(datetime.now(UTC))
                    scheduler.add_job(turn, "date", run_date=due, args=[job], misfire_grace_time=None)

        with self._alone():
            for job in self.jobs.values():
                scheduler.add_job(turn, "date", args=[job], misfire_grace_time=None)
            scheduler.start()
            try:
                self._stopped.wait()
            finally:
                scheduler.shutdown(wait=True)

    def stop(self) -> None:
        """End `run`: what is under way is finished, but not tried again."""
        self._stopped.set()

    def _work(self, job: Job, now: datetime) -> Iterator[Run]:
        """Runs of what is due, each done when it was told of."""
        done = self._done().get(job.name)
        if done is None:
            self._note(job, now)
            return
        times = self._times[job.name]
        due = times.between(datetime.fromisoformat(done), now)
        kept = {"all": due, "last": due[-1:], "none": [at for at in due[-1:] if now - at <= _MISSED]}[job.catch_up]
        for at in kept:
            last = None
            for last in self._attempts(job, at):
                yield last
            if last is not None and last.error is not None:
                self._notify(job, last)
            self._note(job, at)
        if due:
            self._note(job, due[-1])

    def _attempts(self, job: Job, due: datetime) -> Iterator[Run]:
        """A run, and while it fails others of the same notebook, parameters and states."""
        marks = {"job": job.name, "due": due.isoformat(timespec="seconds")}
        last: Run | None = None
        for attempt in range(1, job.retries + 2):
            if last is not None and (last.error is None or self._stopped.wait(job.wait_s)):
                return
            last = self._attempt(job, due, last, marks | {"attempt": attempt})
            self._told(last)
            yield last

    def _attempt(self, job: Job, due: datetime, before: Run | None, marks: Mapping[str, Any]) -> Run:
        started, began = datetime.now(UTC), perf_counter()
        given = job.given(self._times[job.name].session(due))
        try:
            if job.maintain is not None:
                return _maintained(self._bench, job.maintain, started, marks)
            assert job.notebook is not None  # noqa: S101 - a job has one of both
            if before is not None and before.digest:
                return again(self._bench, before, **marks)
            return run(self._bench, job.notebook, given, **marks)
        except K2Error as error:
            what = job.notebook or f"maintain {job.maintain}"
            nothing = {} if job.maintain is None else {"steps": ()}
            return _ended(self._bench, what, started, began, str(error), {**marks, **nothing})

    def _notify(self, job: Job, failed: Run) -> None:
        """Tell the webhook; that it does not answer is logged, and nothing else."""
        _LOG.error("%s", failed)
        if job.webhook is None:
            return
        body = json.dumps(asdict(failed), default=str).encode()
        request = Request(job.webhook, body, {"Content-Type": "application/json"})  # noqa: S310 - checked when it was read
        try:
            urlopen(request, timeout=_WEBHOOK_S).close()  # noqa: S310 - checked when it was read
        except OSError as error:
            _LOG.error("the webhook of %s cannot be told: %s", job.name, error)

    @property
    def _folder(self) -> Path:
        return self._bench.settings.home / "runs"

    def _done(self) -> dict[str, str]:
        """The last time of each job that is done, or when the job was first seen."""
        path = self._folder / _STATE
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def _note(self, job: Job, at: datetime) -> None:
        with self._writing:
            path = self._folder / _STATE
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(json.dumps(self._done() | {job.name: at.isoformat()}, indent=1))
            part.replace(path)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other schedules off this lake; the system lets go of the lock however the process ends."""
        from fcntl import LOCK_EX, LOCK_NB, flock

        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / _LOCK).open("w") as lock:
            try:
                flock(lock, LOCK_EX | LOCK_NB)
            except OSError as exc:
                raise K2Error(f"Another schedule runs on {self._bench.settings.home}", "Stop it first") from exc
            yield


def _maintained(bench: Workbench, table: str, started: datetime, marks: Mapping[str, Any]) -> Run:
    """A turn of maintenance, as a run."""
    began = perf_counter()
    changes = tuple(str(done) for done in bench.maintain(None if table == "all" else table) if not done.idle)
    done = _ended(bench, f"maintain {table}", started, began, None, {**marks, "steps": changes})
    _forget(Path(done.folder).parent, str(marks["job"]))
    return done


def _forget(folder: Path, job: str) -> None:
    """Take away all but the last records of a job's maintenance, which may run every few minutes for years."""
    stamped = re.compile(rf"{re.escape(job)}-\d{{8}}T\d{{9}}Z")
    for old in sorted(path for path in folder.iterdir() if stamped.fullmatch(path.name))[:-_KEPT]:
        if Run.load(old).steps is not None:
            rmtree(old)


def _ended(  # noqa: PLR0917 - the facts of a record
    bench: Workbench, what: str, started: datetime, began: float, error: str | None, marks: Mapping[str, Any]
) -> Run:
    """The record of what was no run of a notebook, or never became one."""
    folder = new_folder(bench, str(marks["job"]))
    folder.mkdir(parents=True)
    done = Run(
        folder=str(folder),
        notebook=what,
        digest="",
        parameters={},
        snapshots={},
        packages=packages(),
        started_at=started.isoformat(timespec="seconds"),
        seconds=round(perf_counter() - began, 3),
        status="ok" if error is None else "failed",
        error=error,
        cells=(),
        **marks,
    )
    done.save()
    METRICS.runs.labels(done.status).inc()
    return done
