"""What tests share that is no fixture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the clone."""


def missing_service(what: str, remedy: str) -> NoReturn:
    """Skip the test because a part of this machine is missing; under CI=true that is a failure.

    `remedy` says what to install. Data sets are no services: they are optional everywhere.
    """
    sentence = f"{what} is missing: {remedy}"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
