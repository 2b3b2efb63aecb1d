import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from trencadis.randomness import Key, derive_seed, derive_uniform

keys = st.lists(st.integers() | st.text(st.characters(exclude_characters="\x1f")), min_size=1, max_size=4)


@given(keys)
def test_seeds_and_numbers_are_in_their_range(keys: list[Key]) -> None:
    assert 0 <= derive_seed(*keys) < 2**63
    assert 0 <= derive_uniform(*keys) < 1


@given(keys, keys)
def test_other_keys_give_other_seeds(one: list[Key], other: list[Key]) -> None:
    assert (derive_seed(*one) == derive_seed(*other)) == (list(map(repr, one)) == list(map(repr, other)))


def test_a_number_and_its_text_are_two_keys() -> None:
    assert derive_seed(1) != derive_seed("1")
    assert derive_seed(1, 23) != derive_seed(12, 3)


def test_seeds_are_the_same_in_every_process_and_every_release() -> None:
    # A changed value would draw another picture from the seed that is written into a saved one.
    assert derive_seed(7, "augment", 3, "pictures/heart.png") == PUBLISHED
    code = "from trencadis.randomness import derive_seed; print(derive_seed(7, 'augment', 3, 'pictures/heart.png'))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(result.stdout) == PUBLISHED


def test_numbers_are_spread_evenly() -> None:
    tenths = [0] * 10
    for index in range(10_000):
        tenths[int(derive_uniform("spread", index) * 10)] += 1
    # Five standard deviations of a binomial count around 1,000.
    assert all(850 < count < 1150 for count in tenths)


PUBLISHED = 4065751437942744405
