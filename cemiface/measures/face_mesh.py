"""Pose and expression from the 468 points of the face mesh (Kartynnik et al. 2019, arXiv 1907.06724).

Points are numbered as there. Right and left are the person's; in the image they are swapped. x goes right, y down, z
away from the camera, all in pixels.
"""

from __future__ import annotations

import numpy as np

RIGHT_EYE = (33, 133, 159, 145)  # outer corner, inner corner, upper lid, lower lid
LEFT_EYE = (263, 362, 386, 374)
MOUTH = (61, 291, 13, 14)  # right corner, left corner, inner edge of the upper lip, of the lower lip
BRIDGE, BASE = 168, 2  # of the nose: between the eyes, and where it meets the upper lip
# The mesh turns less than the face does: gains from faces turned by known angles (docs/attributes.md).
YAW_GAIN, PITCH_GAIN, PITCH_LEVEL = 1.35, 1.2, -3.0  # the last in degrees: the median face of LFW is level


def pose_and_expression(points: np.ndarray) -> dict[str, float]:
    """What 468 points (x, y, z) say.

    Returns:
        yaw: degrees, above 0 if the person looks to the image's right.
        pitch: degrees, above 0 if the person looks up.
        roll: degrees, above 0 if the head leans to the image's right.
        mouth: gap between the lips over the distance of the outer eye corners.
        smile: how far the mouth's corners are above the middle of the lips, plus the mouth's width, over the same.
        eyes: height over width of the opening between the lids, mean of both eyes.
    """
    p = np.asarray(points, dtype=np.float64)
    across = p[LEFT_EYE[0]] - p[RIGHT_EYE[0]]
    down = p[BASE] - p[BRIDGE]
    unit = float(np.linalg.norm(across)) or 1.0
    right, left, upper, lower = (p[index] for index in MOUTH)
    axis = down / (float(np.linalg.norm(down)) or 1.0)
    lift = float(((upper + lower) / 2 - (right + left) / 2) @ axis)
    return {
        "yaw": YAW_GAIN * float(np.degrees(np.arctan2(across[2], across[0]))),
        "pitch": PITCH_GAIN * (float(np.degrees(np.arctan2(-down[2], down[1]))) + PITCH_LEVEL),
        "roll": float(np.degrees(np.arctan2(across[1], across[0]))),
        "mouth": float(np.linalg.norm(lower - upper)) / unit,
        "smile": (lift + float(np.linalg.norm(left - right))) / unit,
        "eyes": (_openness(p, RIGHT_EYE) + _openness(p, LEFT_EYE)) / 2,
    }


def _openness(points: np.ndarray, eye: tuple[int, int, int, int]) -> float:
    outer, inner, upper, lower = (points[index] for index in eye)
    return float(np.linalg.norm(upper - lower)) / (float(np.linalg.norm(outer - inner)) or 1.0)
