"""Ten-fold verification against plain loops over thresholds, and against insightface's evaluation, written out.

Peers, both in numpy and called in the same process:
  loop        for each fold and each of 400 thresholds the accuracy on the other folds, then on the fold
  insightface its evaluation of a benchmark: embeddings normalized, squared distances, accuracy, TPR and FPR at 400
              thresholds per fold, and TAR at FAR 0.001 from 4,000 thresholds per fold by interpolation
It stops if the fold accuracies are not equal to the last bit.

  python -m benchmarks.verification --pairs 6000 --dimensions 512 --rounds 5
"""

from __future__ import annotations

import argparse

import numpy as np

from benchmarks.rounds import print_ratios, run_rounds
from cemiface.recognition.verification import k_fold_accuracy, pair_similarity, tar_at_far

FOLDS = 10


def loop(distance: np.ndarray, same: np.ndarray) -> list[float]:
    thresholds, accuracies = np.arange(0, 4, 0.01), []
    for test in folds(len(same)):
        right = [((distance[~test] < threshold) == same[~test]).mean() for threshold in thresholds]
        accuracies.append(float(((distance[test] < thresholds[np.argmax(right)]) == same[test]).mean()))
    return accuracies


def insightface(a: np.ndarray, b: np.ndarray, same: np.ndarray) -> tuple[list[float], float]:
    """Accuracy per fold and TAR at FAR 0.001, step by step as in its evaluation."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    thresholds, accuracies = np.arange(0, 4, 0.01), []
    distance = np.sum(np.square(np.subtract(a, b)), 1)
    for test in folds(len(same)):
        train = np.flatnonzero(~test)
        right = np.zeros(len(thresholds))
        for index, threshold in enumerate(thresholds):
            right[index] = rates(threshold, distance[train], same[train])[2]
        for threshold in thresholds:
            rates(threshold, distance[test], same[test])
        accuracies.append(float(rates(thresholds[np.argmax(right)], distance[test], same[test])[2]))
    thresholds, found = np.arange(0, 4, 0.001), []
    distance = np.sum(np.square(np.subtract(a, b)), 1)
    for test in folds(len(same)):
        train = np.flatnonzero(~test)
        far = np.array([accepted(threshold, distance[train], same[train])[1] for threshold in thresholds])
        threshold = np.interp(1e-3, far, thresholds) if far.max() >= 1e-3 else 0.0
        found.append(accepted(threshold, distance[test], same[test])[0])
    return accuracies, float(np.mean(found))


def rates(threshold: float, distance: np.ndarray, same: np.ndarray) -> tuple[float, float, float]:
    """TPR, FPR and accuracy."""
    predicted = np.less(distance, threshold)
    tp = np.sum(np.logical_and(predicted, same))
    fp = np.sum(np.logical_and(predicted, np.logical_not(same)))
    tn = np.sum(np.logical_and(np.logical_not(predicted), np.logical_not(same)))
    fn = np.sum(np.logical_and(np.logical_not(predicted), same))
    return tp / max(1, tp + fn), fp / max(1, fp + tn), (tp + tn) / distance.size


def accepted(threshold: float, distance: np.ndarray, same: np.ndarray) -> tuple[float, float]:
    """TAR and FAR."""
    predicted = np.less(distance, threshold)
    true = np.sum(np.logical_and(predicted, same))
    false = np.sum(np.logical_and(predicted, np.logical_not(same)))
    return float(true) / max(1, np.sum(same)), float(false) / max(1, np.sum(np.logical_not(same)))


def folds(count: int) -> list[np.ndarray]:
    return [np.isin(np.arange(count), part) for part in np.array_split(np.arange(count), FOLDS)]


def ours(a: np.ndarray, b: np.ndarray, same: np.ndarray) -> tuple[list[float], float]:
    similarity = pair_similarity(a, b)
    return list(k_fold_accuracy(similarity, same).per_fold), tar_at_far(similarity, same, far=1e-3)


def make_pairs(pairs: int, *, dimensions: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs whose scores overlap: 300 mated and 300 non-mated in turn, as in the folds of LFW."""
    draw = np.random.default_rng(0)
    same = np.arange(pairs) % (pairs // FOLDS) < pairs // FOLDS // 2
    centers = draw.normal(size=(pairs, dimensions))
    a = centers + 1.6 * draw.normal(size=centers.shape)
    other = np.where(same[:, None], centers, np.roll(centers, 1, axis=0) + 0.5 * centers)
    b = other + 1.6 * draw.normal(size=centers.shape)
    return a.astype(np.float32), b.astype(np.float32), same


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--dimensions", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5, help="runs of each, interleaved (default: 5)")
    options = parser.parse_args()
    a, b, same = make_pairs(options.pairs, dimensions=options.dimensions)
    similarity = pair_similarity(a, b)
    distance = 2 - 2 * similarity
    mine, written_out = ours(a, b, same), insightface(a, b, same)
    assert mine[0] == loop(distance, same) == written_out[0], "fold accuracies differ"
    print(f"{options.pairs} pairs of {options.dimensions}: accuracy {np.mean(mine[0]):.4f}, every fold equal")
    print(f"TAR at FAR 0.001: ours {mine[1]:.4f} (exact), insightface {written_out[1]:.4f} (mean of folds)")
    print("accuracy part, from distances:")
    seconds = run_rounds(
        {
            "ours": lambda: [k_fold_accuracy(similarity, same) for _ in range(50)],
            "loop over thresholds": lambda: [loop(distance, same) for _ in range(5)],
        },
        rounds=options.rounds,
    )
    seconds = {name: [value / (50 if name == "ours" else 5) for value in values] for name, values in seconds.items()}
    print_ratios(seconds, ours="ours", work=1, unit="evaluations")
    print("accuracy and TAR at FAR, from embeddings:")
    seconds = run_rounds(
        {
            "ours": lambda: [ours(a, b, same) for _ in range(10)],
            "insightface's logic": lambda: insightface(a, b, same),
        },
        rounds=options.rounds,
    )
    seconds["ours"] = [value / 10 for value in seconds["ours"]]
    print_ratios(seconds, ours="ours", work=1, unit="evaluations")


if __name__ == "__main__":
    main()
