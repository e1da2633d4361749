"""What Adam's moments in bfloat16 do to its steps: the table in PERFORMANCE.md.

python -m docs.bfloat16_moments
"""

import numpy as np

from docs.gradient_sums import rounded

VALUES, STEPS, SETTLED = 10_000, 1000, 200


def walk(signal: float, betas: tuple[float, float], fades: float) -> tuple[float, float, float]:
    """Steps by gradients of noise with deviation 1 about a signal, which fade to a share.

    Returns:
        Root mean square error of a step and of the way over their sizes, once the moments have
        settled, and the mean share by which steps are too long.
    """
    rng = np.random.default_rng(0)
    beta1, beta2 = np.float32(betas)
    moments = {keep: np.zeros((2, VALUES), np.float32) for keep in (np.float32, rounded)}
    ways = {keep: np.zeros(VALUES) for keep in moments}
    error = size = longer = 0.0
    for number in range(STEPS):
        noise = signal + rng.normal(size=VALUES).astype(np.float32)
        gradient = noise * np.float32(fades ** (number / STEPS))
        steps = {}
        for keep, (mean, variance) in moments.items():
            mean = beta1 * mean + (1 - beta1) * gradient
            variance = beta2 * variance + (1 - beta2) * gradient**2
            steps[keep] = mean / (np.sqrt(variance) + 1e-8)
            moments[keep] = np.stack([keep(mean), keep(variance)])
        if number >= SETTLED:
            exact, found = steps[np.float32], steps[rounded]
            error += ((found - exact) ** 2).mean()
            size += (exact**2).mean()
            longer += (found * exact).mean() / (exact**2).mean() - 1
            ways = {keep: way + steps[keep] for keep, way in ways.items()}
    exact = ways[np.float32]
    of_way = np.sqrt(((ways[rounded] - exact) ** 2).mean() / (exact**2).mean())
    return float(np.sqrt(error / size)), float(of_way), longer / (STEPS - SETTLED)


if __name__ == "__main__":
    print("betas, signal, gradients fade to, error of a step, of the way, steps are longer by")
    for betas in ((0.9, 0.98), (0.9, 0.99), (0.9, 0.999)):
        for signal, fades in ((0.0, 1.0), (0.1, 1.0), (0.1, 0.01)):
            step, way, longer = walk(signal, betas, fades)
            print(*betas, signal, fades, f"{step:.2e} {way:.2e} {longer:+.2e}", flush=True)
