"""Which predictions are in the audit: chosen by chance, alike by everybody, at the share that was asked for."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.audit import Audit

IDS = st.text(min_size=1, max_size=256)
SHARES = st.floats(0, 1)
SALTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=64)


@given(IDS, SHARES, SHARES, SALTS)
def test_a_larger_share_only_adds(message_id: str, one: float, other: float, salt: str) -> None:
    """Who is in at a share is in at every larger one; at 0 nobody, at 1 everybody."""
    smaller, larger = sorted((one, other))
    assert Audit(smaller, salt).share_of(message_id) in (None, smaller)
    if Audit(smaller, salt).share_of(message_id) is not None:
        assert Audit(larger, salt).share_of(message_id) == larger
    assert (Audit(0, salt).share_of(message_id), Audit(1, salt).share_of(message_id)) == (None, 1)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
@settings(deadline=None)
@given(st.integers(0, 2**32), SALTS)
def test_the_choice_is_uniform(share: float, seed: int, salt: str) -> None:
    """Of ids that differ as little as ids do, the share is chosen, give or take what chance does."""
    ids = (f"reviews-{seed}-{number}" for number in range(2000))
    chosen = sum(Audit(share, salt).share_of(each) is not None for each in ids)
    assert abs(chosen - 2000 * share) <= 6 * (2000 * share * (1 - share)) ** 0.5  # six standard deviations


def test_a_salt_chooses_others() -> None:
    """Half of those that one salt chooses at a share of one half are chosen by another."""
    ids = [str(number) for number in range(10_000)]
    one, other = ({each for each in ids if Audit(0.5, salt).share_of(each)} for salt in ("", "pepper"))
    assert len(one & other) == pytest.approx(2500, abs=250)


@pytest.mark.parametrize(
    ("message_id", "salt", "fraction"),
    [("a", "", 0.253793611), ("a", "pepper", 0.982126927), ("é", "x" * 64, 0.445328830)],
)
def test_the_choice_is_frozen(message_id: str, salt: str, fraction: float) -> None:
    """If a later version chose otherwise, a record that it scores again would come into the audit, or out of it."""
    assert Audit(fraction - 1e-9, salt).share_of(message_id) is None
    assert Audit(fraction + 1e-9, salt).share_of(message_id) == fraction + 1e-9
