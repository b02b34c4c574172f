"""Evidence from states: each group and each clip by itself, by name; shares from bins."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.serialization import to_state_dict

import clipax
from clipax import scopes
from tests.diagnostics.advice.reading import close, found, whole
from tests.diagnostics.runs import all_states, at

STEPS = 300
NORMS = np.exp(np.random.default_rng(0).standard_normal(STEPS)).astype(np.float32)
QUIET = (0.5 + np.arange(STEPS) % 3 * 0.1).astype(np.float32)
LOUD = (1000 + np.arange(STEPS)).astype(np.float32)
TWO = {"encoder": jnp.asarray(QUIET)[:, None], "head": jnp.asarray(LOUD)[:, None]}


def run(optimizer, given):
    """The last state and the rows of `metrics` of a run."""
    states = jax.jit(lambda given: all_states(optimizer, given))(given)
    columns = jax.device_get(jax.vmap(clipax.metrics)(states))
    rows = [{key: column[step] for key, column in columns.items()} for step in range(STEPS)]
    return at(states), rows


def one(norms):
    return {"w": jnp.asarray(norms)[:, None]}


def part(*before):
    return optax.chain(*before, clipax.clip_by_global_norm(1.0))


@pytest.mark.parametrize("before", [(), (clipax.monitor_norms(),)], ids=["clip", "monitor"])
def test_groups_are_judged_by_name(before):
    parts = {"e": part(*before), "h": part(*before)}
    state, rows = run(optax.partition(parts, {"encoder": "e", "head": "h"}), TWO)
    for form in (state, to_state_dict(state)):
        advice = clipax.advise(form)
        assert list(advice.groups) == ["e", "h"]
        assert [advice.groups[name].clip_fraction for name in "eh"] == [0, 1]
        assert advice.clip_fraction == 0.5
        never = "`e`: None of 300 finite steps is clipped: this threshold does nothing."
        assert never in advice.findings
        assert "never clipped" not in str(advice).lower()
        assert any(line.startswith("`h`: 100 % of 300 finite") for line in advice.findings)
    # Of the rows, too: by the names that they have.
    text = str(clipax.advise(rows))
    assert "`e/grad_norm`: None of 300 finite steps is clipped" in text
    assert "never clipped" not in text.lower()
    assert text.count("100 % of 300 finite steps are clipped") == 1


def test_a_clip_that_acted_early_alone_is_told_by_its_recent_steps():
    early = np.where(np.arange(STEPS) < 120, 5.0, 0.5).astype(np.float32)
    for norms in (early, early[::-1].copy()):
        state, _ = run(part(), one(norms))
        lately = float(clipax.metrics(state)["recent_clip_fraction"])
        assert (lately < 0.2) == (norms[0] > 1)
        said = f"40 % of 300 finite steps are clipped; lately {100 * lately:.0f} % (an average"
        assert said in str(clipax.advise(state))
    assert "lately" not in str(clipax.advise(run(part(), one(NORMS))[0]))


def test_states_of_several_optimizers_are_told_apart_by_their_keys():
    actor, _ = run(part(), one(QUIET))
    critic, _ = run(part(), one(LOUD))
    advice = clipax.advise({"actor": actor, "nested": {"critic": critic, "count": 3}})
    assert list(advice.groups) == ["actor", "nested"]
    assert advice.groups["nested"].clip_fraction == 1


def test_clips_of_a_chain_are_told_one_by_one():
    chain = optax.chain(clipax.clip_by_global_norm(1e6), clipax.clip_by_global_norm(5.0))
    state, rows = run(chain, one(LOUD))
    advice = clipax.advise(state)
    said = "Clip 1 of 2: none of 300 finite steps is clipped: this threshold does nothing."
    assert said in advice.findings
    assert "Clip 2 of 2: 100 % of 300 finite steps are clipped." in str(advice)
    assert advice.clip_fraction == 0.5
    text = str(clipax.advise(rows))
    assert "`0/grad_norm`: None of 300 finite steps is clipped" in text
    assert "never clipped" not in (text + str(advice)).lower()
    assert "`1/grad_norm`: 100 % of 300 finite" in text


def test_blocks_are_told_by_name():
    state, rows = run(clipax.clip_by_leaf_norm(1.0), TWO)
    advice = clipax.advise(state)
    said = "50 % of 300 finite steps are clipped, on average over 2 blocks "
    assert f"{said}(`head` 100 %, `encoder` 0 %)." in str(advice)
    text = str(clipax.advise(rows))
    assert "100 % of 300 finite steps are clipped in at least one block" in text
    assert "`clip_fraction`, the mean over the blocks, is 50 %" in text
    assert "300 norms, rows 0 to 299; each is the largest of several blocks." in text
    row = jax.device_get(clipax.metrics(state, top=None))
    # A repeated step counts once for the blocks, too.
    rows = [{**row, "step": 0, "grad_norm/encoder": 3.0}, *({**row, "step": k} for k in (0, 1))]
    assert "in at least one block (`head` 100 %, `encoder` 0 %)" in str(clipax.advise(rows))


def test_many_blocks_are_summed_up():
    given = {f"w{row}": jnp.asarray(NORMS)[:, None] * (row > 2) for row in range(9)}
    given["w8"] *= 1e3
    advice = clipax.advise(run(clipax.clip_by_leaf_norm(1.0), given)[0])
    said = "from 0 % in `w2` to 100 % in `w8`; never in 3: `w0`, `w1`, `w2`; at most steps in 1: "
    assert f"({said}`w8`)" in str(advice)
    assert advice.clip_fraction == pytest.approx((5 * np.mean(NORMS > 1) + 1) / 9, abs=1e-3)
    quiet = clipax.advise(run(clipax.clip_by_leaf_norm(1e9), given)[0])
    assert "Never clipped in 300 finite steps, in none of 9 blocks" in str(quiet)


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("leaf", ("encoder", "head")),
        (scopes.by_label({"encoder": "x", "head": "y"}), ("x", "y")),
        (scopes.stacked(0, where="head"), ("encoder", "head")),
    ],
    ids=["leaf", "label", "stacked"],
)
def test_blocks_that_differ_in_size_are_named(scope, names):
    state, _ = run(clipax.monitor_norms(scope=scope), TWO)
    text = str(clipax.advise(state))
    assert f"(`{names[0]}`) and " in text
    assert f"(`{names[1]}`). One threshold for all does not suit them" in text
    assert "differ in size" not in str(clipax.advise(run(clipax.monitor_norms(), TWO)[0]))


@pytest.mark.parametrize("scope", ["global", "leaf"])
@pytest.mark.parametrize("spread", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("zeros", [0.0, 0.4])
def test_the_share_of_a_proposal_is_that_of_the_norms(scope, spread, zeros):
    random = np.random.default_rng(1)
    norms = np.exp(spread * random.standard_normal(STEPS)).astype(np.float32)
    norms[random.random(STEPS) < zeros] = 0
    given = one(norms)
    expected = norms
    if scope == "leaf":
        given = {**given, "b": given["w"] / 4}
        expected = np.r_[norms, norms / 4]
    state, _ = run(clipax.monitor_norms(scope=scope), given)
    for quantile in (0.5, 0.9):
        advice = clipax.advise(state, quantile=quantile, threshold=0.9)
        least, most = np.mean(expected > 0.92), np.mean(expected > 0.84)
        assert least - 1e-9 <= advice.clip_fraction <= most + 1e-9
        assert advice.zero_count == np.sum(expected == 0)
        if advice.threshold is None:
            assert "The bins of a state are too coarse for a threshold" in str(advice)
            continue
        share = np.mean(expected > np.float32(advice.threshold))
        assert advice.threshold_share == pytest.approx(share, abs=1e-12)
        value, said, count, total = found(
            advice, r"threshold of NUMBER would clip about NUMBER % of the \w+ \(COUNT of COUNT\)"
        )
        assert float(value) == pytest.approx(advice.threshold, rel=1e-3)
        assert (whole(count), whole(total)) == (np.sum(expected > advice.threshold), expected.size)
        assert close(said, share)


def test_a_state_says_what_it_cannot_tell():
    state, _ = run(clipax.monitor_norms(), one(NORMS))
    text = str(clipax.advise(state))
    assert "when they came is not remembered, a drift does not show" in text
    assert "read from bins, within 4.5 %" in text
    equal, _ = run(clipax.monitor_norms(), one(np.ones_like(NORMS)))
    advice = clipax.advise(equal, threshold=1.04)
    assert advice.threshold is None
    assert "All 300 norms lie between 1 and 1.09, in one bin: no threshold clips" in str(advice)
    assert "clips between 0 % and 100 % of 300 finite steps (a state counts in bins)" in str(advice)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_norms_beyond_the_bins_propose_nothing(scale):
    state, rows = run(clipax.monitor_norms(), one(NORMS * np.float32(scale)))
    advice = clipax.advise(state)
    assert advice.threshold is None
    if scale > 1:
        assert "beyond the bins of a state (above 1.69e+19): log them" in str(advice)
        assert clipax.advise(rows).threshold_share == pytest.approx(0.1, abs=0.01)
    else:
        assert "300 of 300 norms are 0 (or below 5.42e-20), 100 %" in str(advice)


def test_what_is_said_of_the_learning_rate_goes_by_the_optimizer():
    params = {"w": jnp.ones(1)}
    monitor, clip = clipax.monitor_norms(), clipax.clip_by_global_norm(0.01)
    divides = (
        *(optax.adam(0.1), optax.adamw(0.1), optax.rmsprop(0.1), optax.adagrad(0.1)),
        *(optax.adafactor(0.1), optax.adabelief(0.1), optax.adadelta(0.1)),
    )
    unknown = (optax.sgd(0.1), optax.sgd(0.1, momentum=0.9), optax.lion(0.1), optax.identity())

    def say(*links):
        optimizer = optax.chain(*links)
        state = optimizer.init(params)

        def step(state, norm):
            return optimizer.update({"w": norm[None]}, state, params)[1], None

        return str(clipax.advise(jax.jit(lambda s: jax.lax.scan(step, s, NORMS)[0])(state)))

    for optimizer in divides:
        text = say(monitor, clip, optimizer)
        assert "SGD" not in text
        assert "it divides by the size of the gradients: the threshold itself cancels" in text
        assert "The learning rate can stay: the optimizer behind the clip divides" in text
    for links in (*((monitor, clip, one) for one in unknown), (divides[0], monitor, clip)):
        text = say(*links)
        assert "under SGD the threshold is then part of the learning rate" in text
        assert "Under SGD a clipped step has the length rate * threshold" in text
        assert "Adam and its kin cancel" in text
    text = str(clipax.advise(run(clipax.clip_adam(0.1, 0.1), one(NORMS))[0]))
    assert "SGD" not in text
    assert "SGD" in str(clipax.advise(NORMS))


def test_rows_that_are_spaced_say_so_and_go_by_the_own_count_too():
    # Clipped at odd steps only, of which none is logged.
    norms = np.where(np.arange(STEPS) % 2, 9.0, 0.5).astype(np.float32)
    _, rows = run(clipax.clip_by_global_norm(1.0), one(norms))
    spaced = [{**row, "step": step} for step, row in enumerate(rows)][::2]
    text = str(clipax.advise(spaced))
    assert "Never clipped" not in text
    assert "0 % of 150 finite steps are clipped. The run's own `clip_fraction` is 49.8 %." in text
    quiet = [{**row, "clip_fraction": 0.0} for row in spaced]
    assert "Never clipped in 150 logged finite steps" in str(clipax.advise(quiet))
    # A bad step between two rows.
    norms[101] = np.nan
    _, rows = run(clipax.clip_by_global_norm(1.0), one(norms))
    advice = clipax.advise([{**row, "step": step} for step, row in enumerate(rows)][::2])
    assert advice.nonfinite_count == 0
    assert "The run's own counter, `nonfinite_count`, has 1: the others lie between" in str(advice)


def test_rows_of_metrics_may_lack_columns_and_hold_texts():
    _, rows = run(clipax.clip_by_global_norm(1.0), one(NORMS))
    expected = clipax.advise(rows)
    assert expected.clip_fraction == np.mean(NORMS > 1)
    for prefix in ("", "train/", "train/opt/"):
        texts = [{prefix + key: str(value.item()) for key, value in row.items()} for row in rows]
        assert clipax.advise(texts) == expected
    only = [{"grad_norm": row["grad_norm"]} for row in rows]
    assert clipax.advise(only).clip_fraction is None
    assert clipax.advise(only).threshold == expected.threshold


@pytest.mark.parametrize("name", ["skip_nonfinite", "skip_spikes"])
def test_steps_that_a_guard_skips_are_steps(name):
    guard = getattr(clipax, name)
    norms = np.where(NORMS > 8, 0.5, NORMS)
    norms[[50, 120]] = np.nan
    norms[200] = 1e6  # the first spike that there is
    inner = optax.chain(clipax.monitor_norms(), clipax.clip_by_global_norm(1.0), optax.trace(0.9))
    state, rows = run(guard(inner), one(norms))
    spikes = int(name == "skip_spikes")
    kept = np.delete(norms, [50, 120, 200] if spikes else [50, 120])
    for form in (state, rows):
        advice = clipax.advise(form)
        assert advice.nonfinite_count == 2
        assert advice.clip_fraction == pytest.approx(np.mean(kept > 1))
        assert ("A guard skipped 1 finite step: left out." in advice.findings) == bool(spikes)
    assert clipax.advise(state).steps == STEPS
    advice = clipax.advise(rows)
    assert advice.steps == STEPS - spikes
    assert advice.threshold_share == np.mean(kept > advice.threshold)
    assert ("1e+06" in str(advice)) == (not spikes)


def test_norms_of_a_guard_alone_are_read():
    state, rows = run(clipax.skip_spikes(optax.sgd(0.1)), one(NORMS))
    assert clipax.advise(rows).quantiles == clipax.advise(NORMS).quantiles
    assert clipax.advise(state).steps == STEPS


def test_each_group_has_an_optimizer_of_its_own():
    loud = optax.chain(part(), optax.adam(0.1))
    quiet = optax.chain(part(), optax.sgd(0.1))
    parts = optax.partition({"e": quiet, "h": loud}, {"encoder": "e", "head": "h"})
    lines = clipax.advise(run(parts, {**TWO, "encoder": TWO["head"]})[0]).findings
    assert any(line.startswith("`e`") and "SGD" in line for line in lines)
    assert not any(line.startswith("`h`") and "SGD" in line for line in lines)


def test_the_keys_of_a_named_chain_are_no_groups():
    links = {"watch": clipax.monitor_norms(), "clip": clipax.clip_by_global_norm(2.0)}
    state, _ = run(optax.named_chain(*links.items()), one(NORMS))
    expected, _ = run(optax.chain(*links.values()), one(NORMS))
    assert clipax.advise(state) == clipax.advise(expected)


def test_zeros_that_a_threshold_does_not_remember_are_counted():
    norms = np.where(np.arange(STEPS) % 3, NORMS, 0)
    state, _ = run(clipax.clip_by_percentile(90.0), one(norms))
    assert clipax.advise(state).zero_count == np.sum(norms == 0)


def test_a_clip_that_stopped_acting_is_seen():
    clip = clipax.clip_by_global_norm(3.0)
    sizes = jnp.concatenate([jnp.full(90, 10.0), jnp.full(910, 1.0)])

    def step(state, size):
        return clip.update(size[None], state)[1], None

    state, _ = jax.lax.scan(step, clip.init(jnp.ones(1)), sizes)
    assert "9 % of 1,000 finite steps are clipped; lately 0 %" in str(clipax.advise(state))


def test_a_guard_clips_nothing():
    guarded = clipax.skip_spikes(optax.sgd(0.1), 5.0)
    state = guarded.init(jnp.ones(1))
    for size in (1.0, 9.0, 1.0):
        _, state = guarded.update(jnp.array([size]), state)
    assert "clipped" not in str(clipax.advise(state))
