"""Keras 3 on the JAX backend: clip by any gradient transformation.

Keras clips in a method of its optimizers, and keeps what they remember in variables. The class here
stands in front of one of Keras's optimizers; it imports no Keras itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax
import optax

from clipax import metrics
from clipax._typing import Array

__all__ = ["ClipGradients"]

_CLIPS = "clipnorm", "global_clipnorm", "clipvalue"


class ClipGradients:
    """Clip the gradients of a Keras optimizer by a gradient transformation of clipax or optax.

    Put it before the optimizer's class and name the transformation. Its state is kept in variables
    of the optimizer, so that `model.fit`, `LossScaleOptimizer`, saving and loading work as ever.

    Attributes:
      clip: The transformation, an attribute of the class. It sees a dictionary of all trainable
        variables by their place and path, `"03/dense_1/bias"`: patterns such as `"dense_1"` and
        `"*/bias"` fit. (Keras's paths alone differ between a model and the same model loaded.)

    Notes:
      - It needs Keras 3 on the JAX backend, and replaces `clipnorm`, `global_clipnorm` and
        `clipvalue`, which must be left out.
      - With `gradient_accumulation_steps` it sees the average, with a loss scale what is unscaled.
      - A checkpoint of the optimizer without a clip can be loaded; the clip then starts afresh.

    Example:
      Adam with ZClip's threshold, for `model.compile(ClippedAdam(1e-3), ...)`::

        @keras.saving.register_keras_serializable()
        class ClippedAdam(ClipGradients, keras.optimizers.Adam):
            clip = clipax.clip_by_zscore()
    """

    clip: ClassVar[optax.GradientTransformation]

    # Of the base class.
    _trainable_variables: Sequence[Any]
    variables: Sequence[Any]
    built: bool

    def __init_subclass__(cls, **keywords: Any) -> None:
        """Refuse an order of the bases in which Keras's own method would clip nothing."""
        super().__init_subclass__(**keywords)
        owner = next(one for one in cls.__mro__ if "_clip_gradients" in vars(one))
        if not issubclass(owner, ClipGradients):
            raise TypeError(
                f"`ClipGradients` must be the first base of {cls.__name__}, in front of "
                f"{owner.__name__}: else nothing is clipped."
            )

    def build(self, variables: Sequence[Any]) -> None:
        """Make the optimizer's variables, and after them those of the clip."""
        if self.built:
            return
        _check(self, variables)
        super().build(variables)  # type: ignore[misc]
        start = type(self).clip.init(self._name([variable.value for variable in variables]))
        leaves, self._clip_structure = jax.tree_util.tree_flatten_with_path(start)
        names = ["_".join(map(_read_key, keys)) for keys, _ in leaves]
        # Names of blocks are no variables: a loaded model's may differ.
        self._clip_names = [
            leaf if name.endswith("telemetry_names") else None
            for name, (_, leaf) in zip(names, leaves, strict=True)
        ]
        self._clip_variables = [
            self.add_variable(  # type: ignore[attr-defined]
                shape=leaf.shape,
                dtype=str(leaf.dtype),
                initializer=lambda shape, dtype, leaf=leaf: leaf,
                name=f"clip_{name}",
            )
            for name, known, (_, leaf) in zip(names, self._clip_names, leaves, strict=True)
            if known is None
        ]

    @property
    def clip_state(self) -> Any:
        """Return the state of the clip; there is one once the optimizer is built."""
        if not self.built:
            raise ValueError(
                "`clip_state` must be asked for after the optimizer was built: by `fit`, or by "
                "`optimizer.build(model.trainable_variables)`."
            )
        values = iter([variable.value for variable in self._clip_variables])
        leaves = [next(values) if known is None else known for known in self._clip_names]
        return jax.tree.unflatten(self._clip_structure, leaves)

    def clip_metrics(self, top: int | None = 0) -> dict[str, Array]:
        """Return `clipax.metrics` of the clip; during `fit` those of the end of the last epoch."""
        return metrics(self.clip_state, top)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Load the optimizer's variables; those of an optimizer without a clip will do."""
        others = len(self.variables) - len(self._clip_variables)
        if len(store) != others:
            super().load_own_variables(store)  # type: ignore[misc]
            return
        for place in range(others):
            self.variables[place].assign(store[str(place)])

    def _name(self, values: Sequence[Any]) -> dict[str, Any]:
        """Name values of all variables; statistics of fp8, which Keras overwrites, are left out."""
        variables = self._trainable_variables
        width = len(str(len(variables) - 1))
        return {
            f"{place:0{width}}/{variable.path}": value
            for place, (variable, value) in enumerate(zip(variables, values, strict=True))
            if not getattr(variable, "overwrite_with_gradient", False)
        }

    def _backend_apply_gradients(self, grads: Sequence[Any], trainable_variables: Any) -> None:
        # `_clip_gradients` is not told which variables have a gradient. Beside Keras's own
        # attributes, which it would track as variables of the optimizer.
        self.__dict__["_with_gradient"] = [id(variable) for variable in trainable_variables]
        super()._backend_apply_gradients(grads, trainable_variables)  # type: ignore[misc]

    def _clip_gradients(self, grads: Sequence[Any]) -> list[Any]:
        given = dict(zip(self.__dict__["_with_gradient"], grads, strict=True))
        variables = self._trainable_variables
        updates, state = type(self).clip.update(
            self._name([given.get(id(variable)) for variable in variables]),
            self.clip_state,
            self._name([variable.value for variable in variables]),
        )
        leaves = zip(self._clip_names, jax.tree.leaves(state), strict=True)
        remembered = [leaf for known, leaf in leaves if known is None]
        for variable, value in zip(self._clip_variables, remembered, strict=True):
            variable.assign(value)
        order = self._name([id(variable) for variable in variables])
        clipped = {order[path]: update for path, update in updates.items()}
        return [clipped[identity] for identity in given]


def _check(optimizer: Any, variables: Sequence[Any]) -> None:
    """Refuse what would be ignored, or cannot work."""
    kind = type(optimizer).__name__
    if not isinstance(getattr(type(optimizer), "clip", None), optax.GradientTransformation):
        raise TypeError(
            f"`clip` of {kind} must be a gradient transformation, as in "
            "`clip = clipax.clip_by_global_norm(1.0)` in the body of the class."
        )
    for name in _CLIPS:
        if getattr(optimizer, name, None) is not None:
            raise ValueError(
                f"`{name}` must be left out: {kind} clips by its `clip`. For two clips make it "
                f"`optax.chain(first, second)`."
            )
    if not all(isinstance(variable.value, jax.Array) for variable in variables):
        raise TypeError(
            f"`variables` must be arrays of JAX for {kind}, got "
            f"{type(variables[0].value).__name__}: set the environment variable "
            "KERAS_BACKEND=jax before Keras is imported."
        )


def _read_key(key: Any) -> str:
    """Read the name or number of a key in a path."""
    for field in ("name", "key", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field)).replace("/", "_")
    return str(key)
