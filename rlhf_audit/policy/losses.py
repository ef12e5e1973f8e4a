"""What training minimises, as pure functions of what the policy says.

Each takes TensorFlow tensors over ``n`` rows and returns the sum over rows; its gradient is the formula's own
(tests hold it to finite differences). ``judged`` makes the first two of the network's outputs. None goes
through a fused cross-entropy kernel: with labels that don't sum to 1 those apply another gradient, and op
determinism changes it (tensorflow#60314, #49178).
"""

from collections.abc import Sequence
from typing import Any

from rlhf_audit.determinism import tensorflow
from rlhf_audit.policy.heads import LOG_STD_HIGH, LOG_STD_LOW, places


def judged(heads: Sequence[int], outputs: Any, actions: Any, log_std: Any = None) -> tuple[Any, Any]:
    """Return how right the policy takes each judged action to be, and the logarithm of its probability.

    The first is what the likelihood reads as P(the action is right): the product over an action's dimensions
    of a choice's probability, and for a number of exp(−z²/2), z = (a − μ(s)) / σ. That is the Gaussian's
    density over its peak, so 1 at the mean and falling to 0: a density itself is no probability and has no
    bound. The reading, with σ as the distance at which raters begin to say no, is ours. The second is the
    sum of log p, and of −z²/2 − log σ: the log-density but for a constant.

    Args:
        heads: Choices of each dimension, 0 for a Gaussian.
        outputs: ``(n, n_outputs)``, logits and means.
        actions: ``(n,)`` for a single choice, otherwise ``(n, n_dimensions)`` float32.
        log_std: ``(n_gaussians,)``, or None without any.

    Returns:
        Two ``(n,)``.
    """
    tf = tensorflow()
    right: Any = None
    log_probability: Any = None
    n_gaussians = 0
    for number, (choices, place) in enumerate(places(heads)):
        taken = actions if len(actions.shape) == 1 else actions[:, number]
        if choices:
            logits = outputs if len(heads) == 1 else outputs[:, place]
            one_hot = tf.one_hot(tf.cast(taken, tf.int32), choices)
            own = tf.reduce_sum(one_hot * tf.nn.softmax(logits), axis=1)
            own_log = tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=1)
        else:
            spread = tf.clip_by_value(log_std[n_gaussians], LOG_STD_LOW, LOG_STD_HIGH)
            distance = (taken - outputs[:, place.start]) * tf.exp(-spread)
            own, own_log = tf.exp(-distance * distance / 2), -distance * distance / 2 - spread
            n_gaussians += 1
        right = own if right is None else right * own
        log_probability = own_log if log_probability is None else log_probability + own_log
    return right, log_probability


def likelihood(
    right: Any,
    log_probability: Any,
    values: Any,
    yes_when_right: Any,
    yes_when_wrong: Any,
    row_weights: Any,
) -> Any:
    """Return the negative log-likelihood of the answers to "was this action correct?".

    With p = π(a|s) read as the probability that the action is right, a rater says yes with probability
    q = αp + β(1 − p); the loss is −Σ w log q for a yes and −Σ w log(1 − q) for a no. It is bounded while
    0 < α, β < 1, uses "no", and needs no importance weights.

    Args:
        right: ``(n,)``, π of the action that was judged.
        log_probability: Not used.
        values: ``(n,)``, 1 for yes and 0 for no.
        yes_when_right: ``(n,)``, α of the row's rater.
        yes_when_wrong: ``(n,)``, β of the row's rater.
        row_weights: ``(n,)``; 0 leaves a row out.

    References:
        Griffith et al. 2013 (Advise: α = 1 − ε, β = ε); Raykar et al. 2010 (α and β per rater).
    """
    del log_probability
    tf = tensorflow()
    yes = yes_when_right * right + yes_when_wrong * (1 - right)
    answer = values * yes + (1 - values) * (1 - yes)
    return -tf.reduce_sum(row_weights * tf.math.log(answer))


def article(
    right: Any,
    log_probability: Any,
    values: Any,
    yes_when_right: Any,
    yes_when_wrong: Any,
    row_weights: Any,
) -> Any:
    """Return the loss whose gradient on the logits is the article's −f(e_a − p): −Σ w f log p.

    REINFORCE with the answer as the return and no discount. The article itself passes targets f(e_a − p) to
    ``categorical_crossentropy``; what Keras then applies by default is p − f(e_a − p), in which a "no" moves
    the weights and a "yes" lowers the praised action; with op determinism it is −f(e_a − p), so one log
    trains in two directions. This is the form that was meant, under either setting. A "no" teaches nothing.

    Args:
        right: Not used.
        log_probability: ``(n,)``, log π of the action that was judged.
        values: ``(n,)``, f.
        yes_when_right: Not used.
        yes_when_wrong: Not used.
        row_weights: ``(n,)``; 0 leaves a row out.
    """
    del right, yes_when_right, yes_when_wrong
    tf = tensorflow()
    return -tf.reduce_sum(row_weights * values * log_probability)


LOSSES = {"likelihood": likelihood, "article": article}
