"""Published figures of synthetic sets, each with its source.

Accuracies in percent on LFW, CFP-FP, AgeDB-30, CALFW and CPLFW, as the source states them. Recipes, backbones and
real baselines differ between sources by about half a point, and one recipe change moved a set by two points: compare
within a source, and take differences between sources as a hint.
"""

from __future__ import annotations

from dataclasses import dataclass

BENCHMARKS = ("LFW", "CFP-FP", "AgeDB-30", "CALFW", "CPLFW")
CEMIFACE = "CemiFace, NeurIPS 2024 (arXiv 2409.18876), table 6"
ARC2FACE = "Arc2Face, ECCV 2024, table 2"
VEC2FACE = "README of HaiyuWu/Vec2Face (ICLR 2025)"
VEC2FACE_PLUS = "README of HaiyuWu/Vec2Face_plus (arXiv 2507.17192)"
VIGFACE = "README of kim1102/VIGFace (ICCV 2025)"
ADMIS = "README of zzzweakman/CVPR24_FRCSyn_ADMIS"
SCORES_SOURCE = (
    "replication package of Beyond Real Faces (arXiv 2510.17372): ArcFace R100 trained on MS1MV3, images only resized "
    "to 112 pixels, about a million pairs of each kind"
)
NOTE = (
    "Figures of CemiFace's README are maxima over epochs and benchmarks: its released log ends at an average of 92.52 "
    "where the README has 92.71."
)


@dataclass(frozen=True, kw_only=True)
class System:
    """Accuracies of a net trained on a set; `accuracies` in the order of BENCHMARKS."""

    name: str
    images: str
    net: str
    accuracies: tuple[float, float, float, float, float]
    source: str

    @property
    def average(self) -> float:
        return sum(self.accuracies) / len(self.accuracies)


def _row(name: str, images: str, net: str, accuracies: tuple[float, float, float, float, float], source: str) -> System:
    return System(name=name, images=images, net=net, accuracies=accuracies, source=source)


SYSTEMS = (
    _row("CASIA-WebFace (real)", "0.49M", "IR-SE50, CosFace", (99.30, 94.87, 94.35, 93.15, 89.65), CEMIFACE),
    _row("SynFace", "0.5M", "IR-SE50", (91.93, 75.03, 61.63, 74.73, 70.43), CEMIFACE),
    _row("DigiFace", "0.5M", "IR-SE50", (95.40, 87.40, 76.97, 78.62, 78.87), CEMIFACE),
    _row("IDiff-Face", "0.5M", "IR-SE50", (98.00, 85.47, 86.43, 90.65, 80.45), CEMIFACE),
    _row("DCFace", "0.5M", "IR-SE50, CosFace", (98.33, 87.70, 90.01, 91.61, 83.26), CEMIFACE),
    _row("CemiFace", "0.5M", "IR-SE50, CosFace", (99.03, 91.06, 91.33, 92.42, 87.65), CEMIFACE),
    _row("DCFace", "1.0M", "IR-SE50, CosFace", (98.88, 89.71, 91.25, 92.15, 85.20), CEMIFACE),
    _row("CemiFace", "1.0M", "IR-SE50, CosFace", (99.18, 92.75, 91.97, 93.01, 88.42), CEMIFACE),
    _row("DCFace", "1.2M", "IR-SE50, CosFace", (99.05, 89.80, 91.73, 92.70, 86.05), CEMIFACE),
    _row("CemiFace", "1.2M", "IR-SE50, CosFace", (99.22, 92.84, 92.13, 93.03, 88.86), CEMIFACE),
    _row("GANDiffFace", "0.54M", "IR-SE50, AdaFace", (90.77, 73.27, 66.35, 74.68, 72.32), VIGFACE),
    _row("VIGFace (S)", "0.5M", "IR-SE50, AdaFace", (99.02, 95.09, 90.95, 90.00, 87.72), VIGFACE),
    _row("VIGFace (B)", "1.2M", "IR-SE50, AdaFace", (99.48, 97.07, 93.62, 92.88, 90.15), VIGFACE),
    _row("VIGFace (L)", "6M", "IR-SE50, AdaFace", (99.33, 97.31, 93.82, 92.95, 91.12), VIGFACE),
    _row("Arc2Face", "0.5M", "IR-SE50, AdaFace", (98.81, 91.87, 90.18, 92.63, 85.16), ARC2FACE),
    _row("Arc2Face", "1.2M", "IR-SE50, AdaFace", (98.92, 94.58, 92.45, 93.33, 86.45), ARC2FACE),
    _row("Vec2Face", "0.5M", "SE-R50, ArcFace", (98.87, 88.97, 93.12, 93.57, 85.47), VEC2FACE),
    _row("Vec2Face", "15M", "SE-R50, ArcFace", (99.30, 91.54, 94.45, 94.58, 87.70), VEC2FACE),
    _row("Vec2Face+", "0.5M", "ArcFace", (99.35, 93.56, 94.33, 94.17, 88.03), VEC2FACE_PLUS),
    _row("Vec2Face+", "12M", "ArcFace", (99.57, 94.80, 95.17, 94.70, 90.43), VEC2FACE_PLUS),
    _row("ADMIS", "0.5M", "IR-50, ArcFace", (99.17, 92.79, 89.42, 91.43, 87.67), ADMIS),
    _row("ADMIS", "1.5M", "IR-50, ArcFace", (99.52, 94.66, 91.75, 93.13, 89.78), ADMIS),
)


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """Score statistics of a set as SCORES_SOURCE has them: means of cosines, rates in percent, Fisher ratio."""

    name: str
    mated: float
    non_mated: float
    eer: float
    fmr100: float
    fmr1000: float
    fisher: float


def _scores(name: str, *values: float) -> ScoreRow:
    mated, non_mated, eer, fmr100, fmr1000, fisher = values
    return ScoreRow(name=name, mated=mated, non_mated=non_mated, eer=eer, fmr100=fmr100, fmr1000=fmr1000, fisher=fisher)


SCORES = (
    _scores("HyperFace", 0.6427, 0.0231, 0.69, 0.62, 1.17, 18.20),
    _scores("Vec2Face", 0.4582, 0.0071, 0.88, 0.79, 4.39, 9.37),
    _scores("Digi2Real", 0.6442, 0.0236, 1.07, 1.09, 2.22, 15.04),
    _scores("IDiff-Face", 0.4476, 0.0251, 1.70, 2.71, 16.15, 10.31),
    _scores("MorphFace", 0.4360, 0.0078, 2.45, 3.87, 9.58, 8.24),
    _scores("DigiFace-1M", 0.5161, 0.1004, 3.92, 7.81, 18.54, 6.70),
    _scores("DCFace", 0.3332, 0.0128, 5.97, 14.57, 30.31, 4.28),
    _scores("CemiFace", 0.2962, 0.0044, 7.27, 18.35, 35.54, 3.63),
    _scores("IDnet", 0.3395, 0.0095, 8.40, 20.70, 37.90, 3.37),
    _scores("SFace2", 0.2957, 0.0796, 16.60, 58.05, 81.86, 1.79),
    _scores("GANDiffFace", 0.2257, 0.0684, 31.46, 89.45, 97.53, 0.42),
    _scores("SynFace", 0.1976, 0.0793, 34.35, 79.22, 89.84, 0.39),
)


@dataclass(frozen=True, kw_only=True)
class MetricsRow:
    """A set of about 10,000 identities and 50 images each, as METRICS_SOURCE has it; None where it says nothing.

    `frechet` is that of Inception features, to CASIA-WebFace.
    """

    name: str
    uniqueness: float | None
    consistency: float | None
    diversity: float | None
    frechet: float | None


METRICS_SOURCE = (
    "uniqueness, consistency and diversity: DCFace, CVPR 2023 (arXiv 2304.07060), section 4, under an IR-101 trained "
    "with AdaFace on WebFace4M; Inception: CemiFace, table 12, 10,000 images against CASIA-WebFace"
)

METRICS = (
    MetricsRow(name="CemiFace", uniqueness=None, consistency=None, diversity=None, frechet=18.72),
    MetricsRow(name="DCFace", uniqueness=0.924, consistency=0.9035, diversity=0.7734, frechet=15.82),
    MetricsRow(name="DigiFace", uniqueness=0.178, consistency=0.9973, diversity=0.297, frechet=65.39),
    MetricsRow(name="SynFace", uniqueness=0.080, consistency=0.9966, diversity=0.131, frechet=None),
)
