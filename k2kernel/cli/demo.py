"""`k2 demo`: the main job on one page, on an invented sample or on the user's own files."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from k2kernel.cli.output import show
from k2kernel.errors import FileFault, InvalidParameter
from k2kernel.html import text

if TYPE_CHECKING:
    from k2kernel.workbench import Workbench

_BAR = "▁▂▃▄▅▆▇█"
_TRADES = ["open", "high", "low", "close", "volume", "vwap", "n_trades", "eligible"]
_MIDS = ["open", "high", "low", "close", "n_quotes"]
_NOT_DATA = {".md", ".origin", ".toml", ".py", ".html", ".pdf"}


def run(bench: Workbench, data: Path | None) -> None:
    """Load, look, ask, travel back; a few seconds on the sample."""
    _say(f"The lake is {bench.settings.home}")
    if data is None:
        from k2kernel.sample import generate

        with tempfile.TemporaryDirectory() as folder:
            _say("No folder given: inventing three days of trades and quotes on three venues")
            _load(bench, generate(Path(folder)))
    else:
        _load(bench, _files(data))
    _tables(bench)
    _say("Instruments")
    show(bench.symbols(), 12, ["symbol", "venue", "trades", "quotes", "first_session", "last_session"])
    busiest = _busiest(bench)
    if busiest is not None:
        _show(bench, busiest)
    _travel(bench)
    _next(bench, busiest)


def _say(text: str) -> None:
    typer.secho(f"\n{text}", bold=True)


def _files(data: Path) -> list[Path]:
    if not data.is_dir():
        raise InvalidParameter("data", str(data), "is not a folder", "Give the folder that holds the files")
    found = [path for path in sorted(data.rglob("*")) if path.is_file() and path.suffix.lower() not in _NOT_DATA]
    files = [path for path in found if not path.name.startswith(".")]
    if not files:
        raise FileFault(str(data), "has no data files in it")
    return files


def _load(bench: Workbench, files: Iterable[Path]) -> None:
    """Ingest what some profile fits; files that need reference data wait until the others are in."""
    waiting = list(files)
    bench.init()
    while True:
        left = [path for path in waiting if not _ingest(bench, path)]
        if len(left) == len(waiting) or not left:
            break
        waiting = left
    for path in left:
        typer.echo(f"  {path.name}: no shipped profile fits; k2 profiles suggest {path} drafts one")


def _ingest(bench: Workbench, path: Path) -> bool:
    profile = bench.guess(path)
    if profile is None:
        return False
    try:
        receipt = bench.ingest(path, profile, progress=True)
    except FileFault as exc:
        typer.echo(f"  {exc}")
    else:
        typer.echo(f"  {path.name} as {profile}: {receipt}")
    return True


def _tables(bench: Workbench) -> None:
    _say("Tables")
    show(bench.stats(), 20, ["table", "rows", "bytes", "files", "first", "last"])


def _busiest(bench: Workbench) -> dict[str, Any] | None:
    """The instrument-session with the most trades, or where there are none, quotes."""
    for table in ("trades", "quotes"):
        order = "ORDER BY n DESC, venue, symbol, session LIMIT 1"
        found = bench.sql(f"SELECT symbol, venue, session, count(*) AS n FROM {table} GROUP BY ALL {order}")
        for row in found.to_arrow().to_pylist():
            return {"of": table, **row}
    return None


def _show(bench: Workbench, busiest: dict[str, Any]) -> None:
    symbol, venue, session = busiest["symbol"], busiest["venue"], str(busiest["session"])
    of = "trades" if busiest["of"] == "trades" else "mid"
    _say(f"{symbol} on {venue}, session by session (of {of}; which trades count is the venue's policy)")
    columns = _TRADES if of == "trades" else _MIDS
    show(bench.bars(symbol, "session", venue=venue, of=of), 10, ["session", *columns])
    _say(f"{symbol} on {session}, minute by minute")
    bars = bench.bars(symbol, "1m", venue=venue, session=session, of=of)
    _chart([close for close in bars.to_arrow()["close"].to_pylist() if close is not None])
    show(bars, 8, ["ts_open", *columns])


def _chart(closes: list[Any], width: int = 100) -> None:
    """Closes as a line of blocks, thinned to the width of a screen."""
    if not closes:
        return
    step = max(1, len(closes) // width)
    thin = closes[::step]
    low, high = min(thin), max(thin)
    span = (high - low) or 1
    line = "".join(_BAR[int((price - low) / span * (len(_BAR) - 1))] for price in thin)
    typer.echo(f"{line}  close {text(low)} to {text(high)}, {len(closes)} bars")


def _travel(bench: Workbench) -> None:
    """The same count now and at the first snapshot, of every row that the table above counts."""
    for table, every in {"trades": "trades_raw", "quotes": "quotes"}.items():
        states = bench.snapshots(table)
        if len(states) < 2:
            continue
        first = states[-1]
        then = bench.sql(f"SELECT count(*) AS n FROM {every}", as_of=first.id).to_arrow()["n"][0]
        now = bench.sql(f"SELECT count(*) AS n FROM {every}").to_arrow()["n"][0]
        _say("Time travel")
        typer.echo(f"{table} has {now} rows now; as of its first snapshot ({first.id}) it had {then}")
        return


def _next(bench: Workbench, busiest: dict[str, Any] | None) -> None:
    symbol = busiest["symbol"] if busiest else "BHP"
    venue = busiest["venue"] if busiest else "XASX"
    session = busiest["session"] if busiest else "2014-03-10"
    folder = str(bench.settings.home)
    home = "" if bench.settings.home == type(bench.settings)().home else f" --home {folder}"
    call = f"k2.connect({folder!r}).trades({symbol!r}, venue={venue!r}, limit=5)"
    programs = _programs()
    _say("Next")
    for line in (
        f"k2 query bars {symbol} 5m -v {venue} --session {session}{home}",
        f'k2 query sql "SELECT symbol, venue, count(*) FROM quotes GROUP BY ALL"{home}',
        f"k2 query snapshots{home}",
        "k2 profiles                      # the vendor formats it reads",
        "k2 ingest FILE --profile NAME    # your own files",
        f'python -c "import k2kernel as k2; print({call})"',
    ):
        typer.echo(f"  {programs}{line}")


def _programs() -> str:
    """The folder of our programs as it is written before them; nothing where the PATH leads there."""
    folder, here = Path(sys.executable).parent, Path.cwd()
    if shutil.which("k2") == str(folder / "k2"):
        return ""
    return f"{folder.relative_to(here) if folder.is_relative_to(here) else folder}/"
