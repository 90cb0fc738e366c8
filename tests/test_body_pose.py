"""Poses on a real photo: scale, shift, cropping, blank pictures and many callers at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from skimage import data

from body_pose import BodyPose, BodyPoses, Joint, surest_pose
from utils import RGBImage

FACE_AND_SHOULDERS = [Joint.NOSE, Joint.LEFT_EYE, Joint.RIGHT_EYE, Joint.LEFT_SHOULDER, Joint.RIGHT_SHOULDER]


@pytest.fixture(scope="module")
def poses() -> Iterator[BodyPoses]:
    poses = BodyPoses(pool_size=2)
    yield poses
    poses.close()


def test_points_lie_on_the_person(poses: BodyPoses) -> None:
    pose = poses.find(data.astronaut())
    assert pose is not None
    assert (pose.visibility[FACE_AND_SHOULDERS] > 0.9).all()
    nose, left, right = pose.at(Joint.NOSE), pose.at(Joint.LEFT_SHOULDER), pose.at(Joint.RIGHT_SHOULDER)
    assert np.linalg.norm(nose - (225, 120)) < 15
    assert right[0] < nose[0] < left[0], "the person's right shoulder is on the picture's left"
    assert min(left[1], right[1]) > nose[1] + 50


def test_mask_has_the_pictures_size_and_covers_the_person(poses: BodyPoses) -> None:
    photo = data.astronaut()
    pose = poses.find(photo)
    assert pose is not None
    assert pose.mask is not None
    assert pose.mask.shape == photo.shape[:2]
    assert pose.mask[100:300, 200:240].min() > 0.8
    assert pose.mask[:200, :60].max() < 0.2


@pytest.mark.parametrize("scale", [0.5, 3])
def test_points_follow_the_pictures_size(poses: BodyPoses, scale: float) -> None:
    photo = data.astronaut()
    first, other = poses.find(photo), poses.find(cv2.resize(photo, None, fx=scale, fy=scale))
    assert first is not None
    assert other is not None
    assert np.abs(other.points[FACE_AND_SHOULDERS, :2] / scale - first.points[FACE_AND_SHOULDERS, :2]).max() < 12


def test_everybody_is_counted(poses: BodyPoses) -> None:
    photo = cv2.copyMakeBorder(data.astronaut()[:, 40:400], 400, 400, 150, 150, cv2.BORDER_CONSTANT, value=(90,) * 3)
    alone, pair = poses.find(photo), poses.find(np.hstack([photo, photo]))
    assert alone is not None
    assert pair is not None
    assert alone.boxes is not None
    assert pair.boxes is not None
    assert (len(alone.boxes), len(pair.boxes)) == (1, 2)


@pytest.mark.parametrize("picture", [np.zeros((64, 64, 3)), np.full((3, 900, 3), 200), np.zeros((1, 1, 3))])
def test_nobody_is_none(poses: BodyPoses, picture: np.ndarray) -> None:
    assert poses.find(picture.astype(np.uint8)) is None


def test_callers_share_the_pool_and_get_the_same_answer(poses: BodyPoses) -> None:
    photo = data.astronaut()
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: poses.find(photo), range(12)))
    assert all(pose is not None and found[0] is not None and (pose.points == found[0].points).all() for pose in found)


class Unsure:
    """Sees both arms only below a high enough headroom."""

    def __init__(self, surest: int) -> None:
        self.asked: list[int] = []
        self.surest = surest

    def find(self, image_rgb: RGBImage) -> BodyPose | None:
        height = image_rgb.shape[0]
        self.asked.append(height)
        points = np.full((33, 3), height, np.float32)
        visibility = np.full(33, 0.99 if height == self.surest else 0.5, np.float32)
        boxes = np.array([[0, height, 10, height]], np.float32)
        return BodyPose(points, visibility, np.full(image_rgb.shape[:2], 0.5, np.float32), boxes)


def test_a_doubtful_pose_is_looked_for_again_below_headroom() -> None:
    photo = np.zeros((200, 100, 3), np.uint8)
    finder = Unsure(surest=230)
    pose = surest_pose(finder, photo)
    assert finder.asked == [200, 230, 260]
    assert pose is not None
    assert pose.points[0].tolist() == [230, 200, 230], "in the photo's own rows"
    assert pose.boxes is not None
    assert pose.boxes[0].tolist() == [0, 200, 10, 200]
    assert pose.mask is not None
    assert pose.mask.shape == (200, 100)
    sure = Unsure(surest=200)
    surest_pose(sure, photo)
    assert sure.asked == [200]
