"""The command line: `k2`, and `k2-query` and `k2-ingest`, which are its sub-commands under their own names.

Answers go to standard output, exact and unwrapped where a machine reads them; progress and messages go to standard
error. Exit status: 0 done (also with no rows), 2 an error that its one sentence explains, 130 interrupted.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

# Python looks for garbage after every 700 objects; the hundreds of thousands that libraries make when loaded all stay.
gc.set_threshold(50_000, 20, 20)

_INTERRUPTED = 130


def main() -> None:
    """`k2`."""
    from k2kernel.cli.app import app

    run(app)


def query_main() -> None:
    """`k2-query`: the read verbs."""
    from k2kernel.cli.replay import query_app as app

    run(app)


def ingest_main() -> None:
    """`k2-ingest`: files into the lake."""
    from k2kernel.cli.load import standalone

    run(standalone)


def run(app: Callable[[], object]) -> None:
    """Run a door; an error of ours becomes one sentence and exit status 2."""
    from k2kernel.cli.shared import CLOSING
    from k2kernel.errors import K2Error

    try:
        with CLOSING:
            app()
    except K2Error as exc:
        sys.stderr.write(f"k2: {exc}\n")
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as exc:
        # Typer has made the exit of an interrupt.
        if isinstance(exc, SystemExit) and exc.code != _INTERRUPTED:
            raise
        sys.stderr.write("k2: interrupted; nothing half-done is left\n")
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has seen enough, as with `| head`.
        sys.stderr.close()
        sys.exit(0)
