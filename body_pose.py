"""Body pose without downloads: 33 points and a person mask by the models inside MediaPipe's wheel."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import cv2
import numpy as np

from mediapipe_graphs import Graph, GraphConfig, GraphPool, expand, float_image, proto, proto_list
from utils import FloatArray, RGBImage, Window, shrink

_LONGEST_SIDE = 640  # the models look at 224 and 256 pixels; more would only cost time
_HEADROOM = (0.15, 0.3)  # of a picture's height, added above it where the pose is doubtful
_SURE = 0.8  # visibility of both arms' joints, below which the pose is doubtful


class Joint(IntEnum):
    """MediaPipe's pose points. Left and right are the person's own."""

    NOSE = 0
    LEFT_EYE_INNER = 1
    LEFT_EYE = 2
    LEFT_EYE_OUTER = 3
    RIGHT_EYE_INNER = 4
    RIGHT_EYE = 5
    RIGHT_EYE_OUTER = 6
    LEFT_EAR = 7
    RIGHT_EAR = 8
    MOUTH_LEFT = 9
    MOUTH_RIGHT = 10
    LEFT_SHOULDER = 11
    RIGHT_SHOULDER = 12
    LEFT_ELBOW = 13
    RIGHT_ELBOW = 14
    LEFT_WRIST = 15
    RIGHT_WRIST = 16
    LEFT_PINKY = 17
    RIGHT_PINKY = 18
    LEFT_INDEX = 19
    RIGHT_INDEX = 20
    LEFT_THUMB = 21
    RIGHT_THUMB = 22
    LEFT_HIP = 23
    RIGHT_HIP = 24
    LEFT_KNEE = 25
    RIGHT_KNEE = 26
    LEFT_ANKLE = 27
    RIGHT_ANKLE = 28
    LEFT_HEEL = 29
    RIGHT_HEEL = 30
    LEFT_FOOT = 31
    RIGHT_FOOT = 32


_ARMS = [
    Joint.LEFT_SHOULDER,
    Joint.RIGHT_SHOULDER,
    Joint.LEFT_ELBOW,
    Joint.RIGHT_ELBOW,
    Joint.LEFT_WRIST,
    Joint.RIGHT_WRIST,
]


@dataclass(frozen=True, slots=True)
class BodyPose:
    """The most prominent person's pose.

    points: (33, 3) float32 in `Joint` order; x and y in pixels, z in the same unit from the hips' middle, negative
    towards the viewer. Points beyond the picture's border are guesses.
    visibility: (33,) float32 0..1, how likely each point lies in the picture and is not hidden.
    mask: HxW float32 0..1 of the picture's size, how much each pixel belongs to this person; None where not known.
    boxes: (N, 4) x1, y1, x2, y2 of all people's heads and hips who were detected, this one first.
    """

    points: FloatArray
    visibility: FloatArray
    mask: FloatArray | None = None
    boxes: FloatArray | None = None

    def at(self, joint: Joint) -> FloatArray:
        """(2,) x, y in pixels."""
        return self.points[joint, :2]

    def cut(self, window: Window) -> BodyPose:
        """The same pose in a window of its picture."""
        left, top = float(window[1].start), float(window[0].start)
        return BodyPose(
            self.points - np.array([left, top, 0], np.float32),
            self.visibility,
            None if self.mask is None else self.mask[window],
            None if self.boxes is None else self.boxes - np.array([left, top, left, top], np.float32),
        )


class BodyPoses:
    """MediaPipe Pose (`pose_landmark_full`) for single pictures. Thread-safe."""

    def __init__(self, *, pool_size: int) -> None:
        """`pool_size`: how many callers may use it at the same time; graphs are built on demand."""
        self._graphs = GraphPool(lambda: Graph(_pose_graph(), side_packets={"enable_segmentation": True}), pool_size)

    def close(self) -> None:
        """Free the graphs' native memory."""
        self._graphs.close()

    def find(self, image_rgb: RGBImage) -> BodyPose | None:
        """The most prominent person's pose, at any size of picture; None where nobody is found."""
        height, width = image_rgb.shape[:2]
        scale = min(1.0, _LONGEST_SIDE / max(height, width))
        small = shrink(image_rgb, (max(1, round(width * scale)), max(1, round(height * scale))))
        with self._graphs.borrow() as graph:
            packets = graph.run(np.ascontiguousarray(small))
        if "landmarks" not in packets:
            return None
        landmarks = proto(packets["landmarks"]).landmark
        points = np.array([(p.x * width, p.y * height, p.z * width) for p in landmarks], np.float32)
        visibility = np.array([p.visibility for p in landmarks], np.float32)
        mask = cv2.resize(float_image(packets["mask"]), (width, height))
        people = proto_list(packets.get("detections"))
        return BodyPose(points, visibility, mask, _boxes(people, width, height))


class PoseFinder(Protocol):
    """Whatever finds a pose: `BodyPoses`, or a test's own."""

    def find(self, image_rgb: RGBImage) -> BodyPose | None:
        """The most prominent person's pose."""
        ...


def surest_pose(poses: PoseFinder, image_rgb: RGBImage) -> BodyPose | None:
    """The most prominent person's pose. Where an arm is doubtful, it is looked for again below added headroom.

    The model expects a head. On a photo cut at the mouth it may lay an arm across the trunk, unsurely.
    """
    found = poses.find(image_rgb)
    if found is None or found.visibility[_ARMS].min() > _SURE:
        return found
    tries = [found]
    for share in _HEADROOM:
        added = round(share * image_rgb.shape[0])
        pose = poses.find(cv2.copyMakeBorder(image_rgb, added, 0, 0, 0, cv2.BORDER_REPLICATE))
        if pose is not None:
            tries.append(pose.cut(np.s_[added : added + image_rgb.shape[0], 0 : image_rgb.shape[1]]))
    return max(tries, key=lambda pose: float(pose.visibility[_ARMS].sum()))


def _boxes(detections: list[object], width: int, height: int) -> FloatArray:
    found = []
    for detection in detections:
        box = detection.location_data.relative_bounding_box  # type: ignore[attr-defined]
        found.append((box.xmin, box.ymin, box.xmin + box.width, box.ymin + box.height))
    return np.array(found, np.float32).reshape(-1, 4) * np.array([width, height, width, height], np.float32)


def _pose_graph() -> GraphConfig:
    """Detector and landmark model for one picture at a time, without the smoothing over a video."""
    return expand("""
        input_stream: "image"
        input_side_packet: "enable_segmentation"
        output_stream: "landmarks"
        output_stream: "mask"
        output_stream: "detections"
        node {
          calculator: "ImagePropertiesCalculator"
          input_stream: "IMAGE_CPU:image"
          output_stream: "SIZE:size"
        }
        node {
          calculator: "PoseDetectionCpu"
          input_stream: "IMAGE:image"
          output_stream: "DETECTIONS:detections"
        }
        node {
          calculator: "SplitDetectionVectorCalculator"
          input_stream: "detections"
          output_stream: "detection"
          options { [mediapipe.SplitVectorCalculatorOptions.ext] { ranges { begin: 0 end: 1 } element_only: true } }
        }
        node {
          calculator: "PoseDetectionToRoi"
          input_stream: "DETECTION:detection"
          input_stream: "IMAGE_SIZE:size"
          output_stream: "ROI:roi"
        }
        node {
          calculator: "PoseLandmarkByRoiCpu"
          input_side_packet: "ENABLE_SEGMENTATION:enable_segmentation"
          input_stream: "IMAGE:image"
          input_stream: "ROI:roi"
          output_stream: "LANDMARKS:landmarks"
          output_stream: "SEGMENTATION_MASK:mask_image"
        }
        node {
          calculator: "FromImageCalculator"
          input_stream: "IMAGE:mask_image"
          output_stream: "IMAGE_CPU:mask"
        }""")
