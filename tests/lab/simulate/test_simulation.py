"""Simulations: the runs against NumPy in float64, the quantiles, the file."""

import dataclasses
from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import clipax
from clipax.lab import Simulation, quantile_interval, simulate
from clipax.lab._simulate.chunks import tile_width

# Of bits, which must not depend on the chunk, in the code that users get.
OPTIMISED = True

RUNS, DIM, STEPS = 2_500, 5, 11
RECORD = (0, 3, STEPS)


@dataclasses.dataclass(frozen=True)
class Quadratic:
    dim: int = DIM
    name: str = "quadratic"
    optimum_value: float | None = 0.5

    @property
    def start(self):
        return jnp.arange(1.0, self.dim + 1)

    def value(self, x):
        return 0.5 * jnp.sum(x**2) + 0.5

    def gradient(self, x):
        return x


@dataclasses.dataclass(frozen=True)
class Logistic:
    """A law of three words, so that the last word of a pair is left over; heavy by a ratio."""

    words: int = 3

    def from_words(self, first, second, third):
        one, two, three = (
            (word.astype(jnp.float32) + 0.5) * 2.0**-32 for word in (first, second, third)
        )
        return (one - two) / (three + 0.01)

    def __str__(self):
        return "a ratio"


def noise_of(seed, runs=RUNS, steps=STEPS):
    """The noise from `jax.random` alone, (steps, dim, runs)."""
    drawn = []
    for step in range(steps):
        key = jax.random.fold_in(jax.random.key(seed), step)
        with jax.enable_x64(True):
            bits = np.asarray(jax.random.bits(key, (runs, DIM, 2), "uint64"))
        halves = [(bits >> 32), (bits & 0xFFFFFFFF)]
        drawn.append([halves[0][..., 0].T, halves[1][..., 0].T, halves[0][..., 1].T])
    parts = [np.stack(part).astype(np.uint32) for part in zip(*drawn, strict=True)]
    return np.asarray(Logistic().from_words(*map(jnp.asarray, parts)), np.float64)


def clipped(noise, rate, threshold, adagrad):
    """Iterates of clipped SGD and Clip-AdaGrad-Norm in float64, (steps + 1, dim, runs)."""
    x = np.repeat(np.arange(1.0, DIM + 1)[:, None], noise.shape[-1], axis=1)
    b_square, path = np.ones(noise.shape[-1]), [x]
    for one in noise:
        g = x + one
        g = g * np.minimum(1, threshold / np.sqrt((g**2).sum(0)))
        b_square = b_square + (g**2).sum(0)
        x = x - rate * g / (np.sqrt(b_square) if adagrad else 1)
        path.append(x)
    return np.stack(path)


def suboptimality(path):
    return 0.5 * (path**2).sum(1)


@pytest.fixture(scope="module")
def kept():
    """A simulation with all its values: quantiles at a grid of levels are all that leaves it."""
    levels = [(i + 0.5) / 100 for i in range(100)]
    return simulate(
        {
            "sgd": partial(clipax.clip_sgd, threshold=8.0),
            "adagrad": lambda learning_rate: clipax.clip_adagrad_norm(learning_rate, 8.0),
        },
        Quadratic(),
        Logistic(),
        runs=RUNS,
        record=RECORD,
        quantiles=levels,
        grid={"learning_rate": [0.1, 0.5]},
        seed=3,
    )


def test_runs_are_those_of_numpy(kept):
    noise = noise_of(3)
    shares = []
    for curve in kept.curves:
        rate = curve.parameters["learning_rate"]
        path = clipped(noise, rate, 8.0, curve.method == "adagrad")
        shares.append(np.mean(np.sqrt(((path[:-1] + noise) ** 2).sum(1)) > 8))
        values = np.sort(suboptimality(path)[list(RECORD)], axis=-1)
        expected = np.quantile(values, kept.levels, axis=-1, method="inverted_cdf").T
        np.testing.assert_allclose(curve.quantiles, expected, rtol=2e-4)
        np.testing.assert_allclose(curve.mean, values.mean(-1), rtol=2e-5)
        ranks = np.array([quantile_interval(RUNS, level) for level in kept.levels])
        np.testing.assert_allclose(np.array(curve.low)[:, 3:], values[:, ranks[3:, 0] - 1], 2e-4)
        np.testing.assert_allclose(np.array(curve.high)[:, :-3], values[:, ranks[:-3, 1] - 1], 2e-4)
    assert [curve.label for curve in kept.curves][:2] == [
        "sgd, learning_rate 0.1",
        "sgd, learning_rate 0.5",
    ]
    assert all(0.1 < share < 0.9 for share in shares)  # the clip bites in some steps and not others


def test_runs_do_not_depend_on_the_chunk(kept):
    """Bit for bit, with a sum of five terms, whose order XLA may choose; three tiles of runs."""

    def curves(seed, chunk):
        return simulate(
            {"sgd": partial(clipax.clip_sgd, threshold=8.0)},
            Quadratic(),
            Logistic(),
            runs=RUNS,
            record=RECORD,
            quantiles=kept.levels,
            grid={"learning_rate": [0.1, 0.5]},
            seed=seed,
            chunk=chunk,
        ).curves

    assert 2 * tile_width(2 * DIM) < RUNS
    assert curves(3, RUNS) == kept.curves[:2]
    other = curves(4, 1_100)
    assert other[0].quantiles[0] == kept.curves[0].quantiles[0]  # all are at the start
    assert other[0].quantiles[1] != kept.curves[0].quantiles[1]


def test_noise_is_common_to_methods():
    """After one unclipped step at rate 1, the iterate is minus the noise."""
    values = -noise_of(0, 700, 1)[0]
    levels = [0.001, 0.1, 0.5, 0.9, 0.999]
    found = simulate(
        {"plain": optax.sgd(1.0), "clip": clipax.clip_sgd(1.0, jnp.inf)},
        Quadratic(),
        Logistic(),
        runs=700,
        record=[1],
        quantiles=levels,
        measure=lambda x: x[4],
    )
    expected = np.quantile(values[4], levels, method="inverted_cdf")
    np.testing.assert_allclose(found.curves[0].quantiles[0], expected, atol=2e-6)
    assert found.curves[0].quantiles == found.curves[1].quantiles


def test_mean_of_iterates():
    found = simulate(
        {"sgd": clipax.clip_sgd(0.5, 4.0)},
        Quadratic(),
        Logistic(),
        runs=300,
        record=[0, 1, 10],
        seed=3,
        average=True,
        measure="gradient_norm",
    )
    path = clipped(noise_of(3, 300), 0.5, 4.0, adagrad=False)
    for step, row in zip((0, 1, 10), found.curves[0].quantiles, strict=True):
        mean = path[0] if step == 0 else path[1 : step + 1].mean(0)
        values = np.sqrt((mean**2).sum(0))
        expected = np.quantile(values, found.levels, method="inverted_cdf")
        np.testing.assert_allclose(row, expected, rtol=1e-5)


def diverging():
    return simulate(
        {
            "clip": clipax.clip_sgd(0.1, 1.0),
            "plain": lambda learning_rate: optax.sgd(learning_rate),
        },
        Quadratic(),
        Logistic(),
        runs=200,
        record=[1, 40],
        quantiles=[0.5, 0.999],
        grid={"learning_rate": [0.5, 30.0]},
    )


def test_divergence_file_and_plot(tmp_path):
    found = diverging()
    clip, plain, diverged = found.curves
    assert clip.parameters == {}
    assert clip.nonfinite == plain.nonfinite == (0, 0)
    assert diverged.nonfinite == (0, 1)
    assert diverged.quantiles[1] == (np.inf, np.inf)
    assert diverged.mean[1] == np.inf
    assert plain.high[1][1] == np.inf  # 200 runs do not bound the .999 quantile from above
    assert np.isfinite(plain.quantiles[1]).all()

    path = tmp_path / "simulation.json"
    found.save(path)
    assert Simulation.load(path) == found
    assert [one.name for one in tmp_path.iterdir()] == ["simulation.json"]
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match="`path` must be a file of a simulation"):
        Simulation.load(path)

    axes = Figure().subplots()
    assert found.plot(axes, 0.5) is axes
    assert found.plot().has_data()
    assert axes.get_xlabel() == "step"
    assert axes.get_ylabel() == "suboptimality of the iterate, 0.5 quantile"
    assert axes.get_title() == "quadratic, a ratio, 200 runs"
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["clip", "plain, learning_rate 0.5", "plain, learning_rate 30"]
    assert len(axes.collections) == 3
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [row[0] for row in clip.quantiles])
    with pytest.raises(ValueError, match=r"`level` must be one of \(0.5, 0.999\), got 0.7"):
        found.plot(axes, 0.7)


def test_finished_methods_are_kept(tmp_path):
    def broken():
        raise RuntimeError

    path = tmp_path / "partial.json"
    with pytest.raises(RuntimeError):
        simulate(
            {"none": optax.set_to_zero(), "broken": broken},
            Quadratic(),
            None,
            runs=1,
            record=[1],
            path=path,
        )
    kept = Simulation.load(path)
    assert [curve.method for curve in kept.curves] == ["none"]
    assert kept.law == "no noise"
    assert kept.curves[0].quantiles[0] == (27.5,) * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"runs": 0}, "`runs` must be at least 1, got 0"),
        ({"runs": 2**31}, "`runs` must need fewer than 2.32 random words a step"),
        ({"record": []}, "`record` must be steps in increasing order"),
        ({"record": [2, 2]}, "`record` must be steps in increasing order"),
        ({"record": [-1]}, "`record` must be at least 0"),
        ({"quantiles": [0.5, 1.0]}, "`quantiles` must be in"),
        ({"confidence": 0.0}, "`confidence` must be in"),
        ({"seed": 2**32}, "`seed` must be below"),
        ({"grid": {"learning_rate": []}}, "`grid` must have a value for every name"),
        ({"grid": {"learning_rate": [float("nan")]}}, "`grid` must be made of numbers"),
        ({"chunk": 0}, "`chunk` must be at least 1"),
        ({"measure": "loss"}, "`measure` must be one of"),
        ({"problem": Quadratic(optimum_value=None)}, "`measure` must not be 'suboptimality'"),
        ({"problem": SimpleNamespace(start=jnp.ones(()))}, "`problem.start` must be a vector"),
    ],
)
def test_bad_arguments(changes, message):
    settings = {"problem": Quadratic(), "law": Logistic(), "runs": 10, "record": [1]} | changes
    with pytest.raises(ValueError, match=message):
        simulate({"sgd": optax.sgd(0.1)}, settings.pop("problem"), settings.pop("law"), **settings)
    with pytest.raises(TypeError, match="`optimizers` must be gradient transformations"):
        simulate({"sgd": 0.1}, Quadratic(), None, runs=1, record=[1])
