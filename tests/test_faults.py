"""Every system call that the server makes may fail; see faults.py. bench/torture.py does more."""

import logging
from typing import Iterator

import pytest

from tests.faults import ERRORS, Fault, run_with


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(call, number, error)
        for call, errors in ERRORS.items()
        for error in errors
        for number in (1, 3)
    ],
    ids=str,
)
def test_a_failing_call(fault: Fault) -> None:
    """It ends neither the server nor what other clients get."""
    assert run_with(fault) or fault.number > 1
