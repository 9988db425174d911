"""What a person has to say before a cluster without Patroni gets another primary."""

from __future__ import annotations

from dataclasses import dataclass, field

import click
import pytest

from pgbaton.cli import hand
from pgbaton.errors import RefusedError, UsageError
from pgbaton.operate.hand.failover import Intent, Prospect


@dataclass
class Terminal:
    """Somebody who answers questions, or a script."""

    answers: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def isatty(self) -> bool:
        return bool(self.answers)

    def prompt(self, question: str, **_: object) -> str:
        self.asked.append(question)
        return self.answers.pop(0)

    def confirm(self, question: str, **_: object) -> None:
        self.asked.append(question)
        if self.answers.pop(0) != "y":
            raise click.Abort


def intent(*, complete: bool = True, silent: tuple[str, ...] = ()) -> Intent:
    target = Prospect("db2", 0 if complete else 500, complete, ())
    return Intent(target, (target,), (), (), silent)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr("sys.stdin", made)
    monkeypatch.setattr(click, "prompt", made.prompt)
    monkeypatch.setattr(click, "confirm", made.confirm)
    return made


def ask(of: Intent, *, accepted: int | None = None, yes: bool = False) -> None:
    hand.consent(of, of.require(), accepted, yes=yes)


def test_nothing_in_doubt_needs_a_yes(terminal: Terminal) -> None:
    terminal.answers = ["y"]
    ask(intent())
    assert terminal.asked == ["Make db2 the primary?"]


def test_a_silent_host_is_typed_before_anything_else(terminal: Terminal) -> None:
    terminal.answers = ["db1", "y"]
    ask(intent(silent=("db1",)))
    assert terminal.asked[0].startswith("Type db1 to say that it is off")
    terminal.answers = ["db2", "y"]
    with pytest.raises(RefusedError, match="db1 was not typed"):
        ask(intent(silent=("db1",)))


def test_what_may_be_lost_is_typed(terminal: Terminal) -> None:
    terminal.answers = ["db2"]
    ask(intent(complete=False))
    terminal.answers = ["yes"]
    with pytest.raises(RefusedError, match="db2 was not typed"):
        ask(intent(complete=False))


def test_a_script_states_the_loss_and_says_yes(terminal: Terminal) -> None:
    ask(intent(), yes=True)
    ask(intent(complete=False), accepted=500, yes=True)
    for accepted in (None, 499):
        with pytest.raises(RefusedError, match="possible loss"):
            ask(intent(complete=False), accepted=accepted, yes=True)
    with pytest.raises(RefusedError, match="no terminal"):
        ask(intent())
    assert terminal.asked == []


def test_with_patroni_nobody_has_to_say_what_is_off() -> None:
    hand.refuse_off(())
    with pytest.raises(UsageError, match="for clusters without Patroni"):
        hand.refuse_off(("db1",))
