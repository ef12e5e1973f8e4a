"""Print the table of docs/learning.md: mean and lowest return over seeds, and how many reach the mark."""

import numpy as np
from training_data import PANEL, in_rounds, mean_return, rated

ALGORITHMS = ("likelihood", "trusting", "article")
CART, LANDER = "CartPole-v1", "LunarLander-v3"


def main() -> None:
    kinds = {
        "CartPole-v1, 100 by an oracle": (CART, 475, 10, lambda seed: rated(CART, 100, seed)),
        "CartPole-v1, 200 by five raters in turn": (
            CART,
            475,
            10,
            lambda seed: rated(CART, 200, seed, PANEL),
        ),
        "the same, in a row": (CART, 475, 10, lambda seed: rated(CART, 200, seed, PANEL, in_turn=False)),
        "LunarLander-v3, 2,000 in five rounds": (
            LANDER,
            200,
            3,
            lambda seed: in_rounds(LANDER, 2_000, 5, seed),
        ),
    }
    for title, (env_id, mark, n_seeds, answers) in kinds.items():
        found: dict[str, list[float]] = {name: [] for name in ALGORITHMS}
        for seed in range(n_seeds):
            data, spec = answers(seed)
            for name in ALGORITHMS:
                found[name].append(mean_return(env_id, data, spec, name, seed))
        cells = [
            f"{np.mean(returns):.1f}, {min(returns):.1f}, {sum(one >= mark for one in returns)} of {n_seeds}"
            for returns in found.values()
        ]
        print(f"| {title}, {n_seeds} seeds | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
