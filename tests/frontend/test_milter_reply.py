"""A verdict becomes an answer that MTAs take, and edits that change nothing but what was meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filterd.engine.changes import DeleteField, InsertField
from filterd.frontend.milter_reply import Action, Answer, HeaderEdit, answer, edits, field_text
from filterd.mail.reply import Reply
from filterd.mail.transaction import Stage
from filterd.policy.verdict import Disposition, Verdict

BUSY = Reply(451, "4.7.1", "later")
NEVER = Reply(550, "5.7.1", "never")


@pytest.mark.parametrize("stage", Stage)
@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(Disposition.REJECT, NEVER), Answer(Action.REJECT, NEVER)),
        (Verdict(Disposition.REJECT), Answer(Action.REJECT, Reply(550, "5.7.1", "refused by policy"))),
        (Verdict(Disposition.REJECT, BUSY), Answer(Action.REJECT, Reply(550, "5.7.1", "refused by policy"))),
        (Verdict(Disposition.DEFER, BUSY), Answer(Action.DEFER, BUSY)),
    ],
)
def test_a_refusal_has_a_reply_of_its_class(verdict: Verdict, expected: Answer, stage: Stage) -> None:
    assert answer(verdict, stage) == expected


@pytest.mark.parametrize("disposition", [each for each in Disposition if not each.final])
@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.END_OF_MESSAGE])
def test_nothing_is_accepted_before_its_end(disposition: Disposition, stage: Stage) -> None:
    assert answer(Verdict(disposition), stage) == Answer(Action.CONTINUE)


@pytest.mark.parametrize("disposition", [each for each in Disposition if not each.final])
def test_what_is_not_refused_is_accepted_at_its_end(disposition: Disposition) -> None:
    found = answer(Verdict(disposition, rule="r"), Stage.END_OF_MESSAGE)

    assert found == Answer(Action.ACCEPT, hold="r" if disposition is Disposition.HOLD else None)


@pytest.mark.parametrize("stage", Stage)
def test_a_session_is_never_discarded(stage: Stage) -> None:
    found = answer(Verdict(Disposition.DISCARD), stage).action

    assert found is (Action.DEFER if stage < Stage.MAIL else Action.DISCARD)


@given(st.text())
def test_a_reply_is_printable_lines_without_per_cent(text: str) -> None:
    found = answer(Verdict(Disposition.REJECT, Reply(550, "5.7.1", text)), Stage.MAIL).reply

    assert found is not None
    assert found.text.isascii()
    assert "%" not in found.text
    assert all(line.isprintable() for line in found.lines)


@given(st.text())
def test_a_field_stays_one_field(text: str) -> None:
    found = field_text(text)

    assert not {"\0", "\r"} & set(found)
    assert all(line[:1] in (" ", "\t") for line in found.split("\n")[1:])
    found.encode()


def test_what_is_a_field_stays_as_it_is() -> None:
    value = "mx.example.org;\n\tspf=pass smtp.mailfrom=ü@example.org;\n dkim=none"

    assert field_text(value) == value


def test_edits_keep_their_order_and_bring_the_space_where_it_is_theirs_to_bring() -> None:
    changes = (DeleteField("A", 2), DeleteField("A", 1), InsertField(1, "B", "c"))

    assert edits(changes, leading_space=True) == (
        HeaderEdit(False, "A", 2),
        HeaderEdit(False, "A", 1),
        HeaderEdit(True, "B", 1, " c"),
    )
    assert edits(changes, leading_space=False)[2] == HeaderEdit(True, "B", 1, "c")
