"""Signals are noted, codes are right, former handlers come back."""

import os
import signal
import threading

import pytest

from tavid_jax.engine.preemption import Preemption


def test_nothing_happens_without_a_signal():
    with Preemption() as preemption:
        assert not preemption.requested
        preemption.exit_if_requested("saved")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_exit_code_and_message(number: int, code: int, caplog):
    with Preemption() as preemption:
        os.kill(os.getpid(), number)
        assert preemption.requested
        with pytest.raises(SystemExit) as left:
            preemption.exit_if_requested("flow is saved at step 7")
    assert left.value.code == code
    assert "flow is saved at step 7; run the same command to go on" in caplog.text


def test_second_interrupt_leaves_at_once():
    with Preemption():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_former_handlers_come_back():
    former = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    with Preemption():
        assert signal.getsignal(signal.SIGTERM) != former[0]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == former


def test_outside_of_the_main_thread_signals_are_left_alone():
    errors: list[BaseException] = []
    former = signal.getsignal(signal.SIGTERM)

    def work():
        try:
            with Preemption() as preemption:
                preemption.exit_if_requested("saved")
                assert signal.getsignal(signal.SIGTERM) is former
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert errors == []
