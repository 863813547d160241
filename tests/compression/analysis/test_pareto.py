import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compression.analysis.pareto import efficient, staircase

numbers = st.integers(0, 4).map(float)
clouds = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=12)


@given(clouds)
def test_front_by_definition(cloud):
    found = efficient(np.array([p[0] for p in cloud]), np.array([p[1:] for p in cloud]))
    for mine, kept in zip(cloud, found, strict=True):
        beaten = any(
            other[0] >= mine[0] and other[1] <= mine[1] and other[2] <= mine[2] and other != mine for other in cloud
        )
        assert kept == (not beaten)


@given(clouds)
def test_stairs_give_the_best_gain_at_each_cost(cloud):
    gains, costs = [p[0] for p in cloud], [p[1] for p in cloud]
    steps = staircase(gains, costs)
    assert steps == sorted(steps)
    for budget in costs:
        best = max(gain for gain, cost in zip(gains, costs, strict=True) if cost <= budget)
        assert max(gain for cost, gain in steps if cost <= budget) == best
