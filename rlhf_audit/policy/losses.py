"""What training minimises, as pure functions of the policy's logits.

Each takes TensorFlow tensors over ``n`` rows and returns the sum over rows; its gradient is the formula's own
(tests hold it to finite differences). None goes through a fused cross-entropy kernel: with labels that
don't sum to 1 those apply another gradient, and op determinism changes it (tensorflow#60314, #49178).
"""

from typing import Any

from rlhf_audit.determinism import tensorflow


def likelihood(
    logits: Any,
    actions: Any,
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
        logits: ``(n, n_actions)``.
        actions: ``(n, n_actions)`` one-hot, the action that was judged.
        values: ``(n,)``, 1 for yes and 0 for no.
        yes_when_right: ``(n,)``, α of the row's rater.
        yes_when_wrong: ``(n,)``, β of the row's rater.
        row_weights: ``(n,)``; 0 leaves a row out.

    References:
        Griffith et al. 2013 (Advise: α = 1 − ε, β = ε); Raykar et al. 2010 (α and β per rater).
    """
    tf = tensorflow()
    right = tf.reduce_sum(actions * tf.nn.softmax(logits), axis=1)
    yes = yes_when_right * right + yes_when_wrong * (1 - right)
    answer = values * yes + (1 - values) * (1 - yes)
    return -tf.reduce_sum(row_weights * tf.math.log(answer))


def article(
    logits: Any,
    actions: Any,
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
        logits: ``(n, n_actions)``.
        actions: ``(n, n_actions)`` one-hot.
        values: ``(n,)``, f.
        yes_when_right: Not used.
        yes_when_wrong: Not used.
        row_weights: ``(n,)``; 0 leaves a row out.
    """
    del yes_when_right, yes_when_wrong
    tf = tensorflow()
    log_probability = tf.reduce_sum(actions * tf.nn.log_softmax(logits), axis=1)
    return -tf.reduce_sum(row_weights * values * log_probability)


LOSSES = {"likelihood": likelihood, "article": article}
