"""Dealing rows: nobody gets what is barred to them, loads stay even, every group gives its share."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fineline_training.labels.deal import deal, spread

PEOPLE = ["ann", "bo", "cy"]
IDS = st.integers(0, 60).map(str)


@given(
    st.dictionaries(IDS, st.integers(1, 2), max_size=30),
    st.dictionaries(IDS, st.sets(st.sampled_from(PEOPLE)), max_size=30),
    st.integers(),
)
def test_every_row_goes_to_as_many_people_as_wanted_who_may_have_it(wanted, barred, seed):
    dealt = deal(wanted, PEOPLE, barred, seed=str(seed))
    holders = {row: [person for person in PEOPLE if row in dealt.rows[person]] for row in wanted}
    assert all(len(rows) == len(set(rows)) for rows in dealt.rows.values())
    assert all(person not in barred.get(row, ()) for row, people in holders.items() for person in people)
    assert sorted(dealt.left) == sorted(row for row in wanted if len(holders[row]) < wanted[row])
    assert all(len(barred[row]) + wanted[row] > len(PEOPLE) for row in dealt.left)
    assert dealt == deal(dict(reversed(wanted.items())), PEOPLE, barred, seed=str(seed))


@given(st.dictionaries(IDS, st.integers(1, 2)), st.integers(2, 3))
def test_loads_of_fresh_rows_differ_by_one_at_most(wanted, count):
    loads = [len(rows) for rows in deal(wanted, PEOPLE[:count], {}, seed="1").rows.values()]
    assert max(loads) - min(loads) <= 1 and sum(loads) == sum(wanted.values())


def test_the_seed_decides_who_gets_what():
    wanted = {str(number): 1 for number in range(30)}
    assert deal(wanted, PEOPLE, {}, seed="1") != deal(wanted, PEOPLE, {}, seed="2")


@given(st.dictionaries(IDS, st.sampled_from("abc")), st.integers(0, 70))
def test_every_group_gives_its_share(groups, count):
    drawn = spread(groups, count, "1")
    assert len(drawn) == len(set(drawn)) == min(count, len(groups)) and set(drawn) <= set(groups)
    sizes, taken = Counter(groups.values()), Counter(groups[row] for row in drawn)
    assert all(abs(taken[name] - min(count, len(groups)) * size / len(groups)) < 1 for name, size in sizes.items())


def test_another_seed_draws_other_rows():
    groups = {str(number): "a" for number in range(50)}
    assert spread(groups, 5, "1") == spread(groups, 5, "1") != spread(groups, 5, "2")
