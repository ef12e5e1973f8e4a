"""An order of raters that follows from what they gave: their names are random, and may decide nothing."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def by_content(raters: Ints, items: Ints, labels: npt.NDArray[np.float64], n_raters: int) -> Ints:
    """Return the raters' indices in an order that no renaming changes.

    Who gave the very same answers may change places: nothing shows it.

    Args:
        raters: ``(n,)`` index of the rater; rows in the order of items, so that sums are the same.
        items: ``(n,)`` index of the item.
        labels: ``(n,)``.
        n_raters: How many.
    """
    keys = [
        np.bincount(raters, weights, n_raters)
        for weights in (labels * items, items.astype(float) ** 2, items.astype(float), labels, None)
    ]
    return np.lexsort(keys)
