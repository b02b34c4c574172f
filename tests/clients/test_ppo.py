"""PPO in one program, vectorised over seeds, as PureJaxRL and Rejax write it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
from flax.training.train_state import TrainState

import clipax
from tests.clients.suite import Loop, Optimizer, Suite, assert_near, optimizers

SEEDS, ENVIRONMENTS, LENGTH, EPOCHS, MINIBATCHES = 3, 8, 16, 2, 2
DISCOUNT, TRACE, CLIP, VALUE, ENTROPY = 0.95, 0.9, 0.2, 0.5, 0.01


class ActorCritic(nn.Module):
    """Logits of three actions, and a value."""

    @nn.compact
    def __call__(self, observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = nn.tanh(nn.Dense(16)(observation))
        return nn.Dense(3)(hidden), nn.Dense(1)(hidden)[..., 0]


class Moment(NamedTuple):
    """One step of the environments."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


class Kept(NamedTuple):
    """What PPO keeps from update to update."""

    train: TrainState
    position: jax.Array
    key: jax.Array


def move(position: jax.Array, action: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
    """A walk on a line: the reward is for being near zero; an episode ends by chance."""
    position = jnp.clip(position + 0.25 * (action - 1), -2.0, 2.0)
    ends, starts = jax.random.split(key)
    done = jax.random.bernoulli(ends, 0.05, position.shape)
    fresh = jax.random.uniform(starts, position.shape, minval=-2.0, maxval=2.0)
    return jnp.where(done, fresh, position), -jnp.abs(position), done


def collect(kept: Kept) -> tuple[Kept, Moment, jax.Array]:
    """Play for some steps, and value the last position."""

    def play(carry: Any, key: jax.Array) -> Any:
        position = carry
        choose, step = jax.random.split(key)
        logits, value = kept.train.apply_fn(kept.train.params, position[:, None])
        action = jax.random.categorical(choose, logits)
        log_prob = pick(logits, action)
        after, reward, done = move(position, action, step)
        return after, Moment(position[:, None], action, log_prob, value, reward, done)

    key, own = jax.random.split(kept.key)
    position, moments = jax.lax.scan(play, kept.position, jax.random.split(own, LENGTH))
    _, last = kept.train.apply_fn(kept.train.params, position[:, None])
    return kept._replace(position=position, key=key), moments, last


def pick(logits: jax.Array, action: jax.Array) -> jax.Array:
    """The log-probability of the actions."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], -1)[..., 0]


def advantages(moments: Moment, last: jax.Array) -> jax.Array:
    """Generalised advantage estimation."""

    def back(carry: Any, moment: Moment) -> Any:
        advantage, after = carry
        goes_on = 1.0 - moment.done
        error = moment.reward + DISCOUNT * after * goes_on - moment.value
        advantage = error + DISCOUNT * TRACE * goes_on * advantage
        return (advantage, moment.value), advantage

    return jax.lax.scan(back, (jnp.zeros_like(last), last), moments, reverse=True)[1]


def loss(params: Any, apply: Any, batch: Any) -> jax.Array:
    """PPO's clipped objective, the error of the values, and the entropy."""
    moments, advantage, target = batch
    logits, value = apply(params, moments.observation)
    ratio = jnp.exp(pick(logits, moments.action) - moments.log_prob)
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    actor = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantage)
    entropy = -jnp.sum(jax.nn.softmax(logits) * jax.nn.log_softmax(logits), axis=-1)
    return -actor.mean() + VALUE * jnp.mean((value - target) ** 2) - ENTROPY * entropy.mean()


def improve(kept: Kept) -> tuple[Kept, jax.Array]:
    """Play, then make some epochs of minibatches; the loss is the mean of the costs."""
    kept, moments, last = collect(kept)
    advantage = advantages(moments, last)
    batch = moments, advantage, advantage + moments.value
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)
    key, own = jax.random.split(kept.key)

    def epoch(train: TrainState, key: jax.Array) -> Any:
        order = jax.random.permutation(key, LENGTH * ENVIRONMENTS)
        parts = jax.tree.map(
            lambda leaf: leaf[order].reshape(MINIBATCHES, -1, *leaf.shape[1:]), flat
        )
        return jax.lax.scan(minibatch, train, parts)

    def minibatch(train: TrainState, part: Any) -> Any:
        gradient = jax.grad(loss)(train.params, train.apply_fn, part)
        return train.apply_gradients(grads=gradient), None

    train, _ = jax.lax.scan(epoch, kept.train, jax.random.split(own, EPOCHS))
    return kept._replace(train=train, key=key), -moments.reward.mean()


def start(optimizer: Optimizer, seed: jax.Array) -> Kept:
    """A new agent among environments at random places."""
    network, key = ActorCritic(), jax.random.PRNGKey(seed)
    params = network.init(key, jnp.zeros((1, 1)))
    train = TrainState.create(apply_fn=network.apply, params=params, tx=optimizer)
    position = jax.random.uniform(key, (ENVIRONMENTS,), minval=-2.0, maxval=2.0)
    # The step is a number of Python, which is not what a checkpoint restores.
    return Kept(train.replace(step=jnp.zeros((), jnp.int32)), position, key)


def make(optimizer: Optimizer) -> Loop:
    """One update of all seeds at a time."""
    begin = jax.jit(jax.vmap(lambda seed: start(optimizer, seed)))
    step = jax.jit(jax.vmap(improve))
    return Loop(
        lambda: begin(jnp.arange(SEEDS)),
        lambda kept, _: step(kept),
        lambda kept: kept.train.params,
        lambda kept: kept.train.opt_state,
        store,
        restore,
    )


def store(kept: Any, folder: Path) -> None:
    """Write Flax's bytes."""
    (folder / "kept.msgpack").write_bytes(flax.serialization.to_bytes(kept))


def restore(folder: Path, like: Any) -> Any:
    """Read them."""
    return flax.serialization.from_bytes(like, (folder / "kept.msgpack").read_bytes())


class TestPpo(Suite):
    make = staticmethod(make)
    steps: ClassVar[int] = 16
    learning_rate: ClassVar[float] = 0.02
    tolerance: ClassVar[float] = 1e-4

    @classmethod
    def metrics(cls, opt_state: Any) -> Mapping[str, Any]:
        return jax.vmap(lambda state: clipax.metrics(state, top=0))(opt_state)

    def test_a_bad_step_changes_nothing(self) -> None:
        """Several steps of the optimizer are in one update: the count tells."""
        metrics = self.metrics(self.whole("skip").last.train.opt_state)
        np.testing.assert_array_equal(metrics["skipped_count"], np.ones(SEEDS))

    def test_a_seed_as_alone(self) -> None:
        begin = jax.jit(lambda seed: start(optimizers(0.02, 0.5)["zscore"], seed))
        kept, step = begin(jnp.asarray(1)), jax.jit(improve)
        for together in self.whole("zscore").params[:3]:
            kept, _ = step(kept)
            assert_near(kept.train.params, jax.tree.map(lambda leaf: leaf[1], together), 1e-4)
