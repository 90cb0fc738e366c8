"""MediaPipe's calculator graphs: built from text, run on pictures, lent to one caller at a time.

The only import of mediapipe in the project. MediaPipe is driven by its calculator graphs rather than by its
`solutions` classes, since those hide scores and streams that are needed, and run detectors that are not.
A graph is not thread-safe: each kind has a small pool of them.
"""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import mediapipe
import numpy as np
from mediapipe.framework import calculator_pb2
from mediapipe.framework.formats import rect_pb2
from mediapipe.python import packet_creator, packet_getter
from mediapipe.python._framework_bindings import calculator_graph, image_frame, resource_util, validated_graph_config
from mediapipe.python.solutions import face_mesh_connections

from utils import FloatArray, RGBImage

GraphConfig: TypeAlias = calculator_pb2.CalculatorGraphConfig
"""A graph as MediaPipe's protocol buffer; nodes and streams may be changed before it runs."""

FACE_MESH_EDGES: frozenset[tuple[int, int]] = face_mesh_connections.FACEMESH_TESSELATION
"""Pairs of mesh points, in both directions."""

_SRGB = image_frame.ImageFormat.SRGB
_WHOLE_IMAGE = rect_pb2.NormalizedRect(x_center=0.5, y_center=0.5, width=1, height=1)


class Graph:
    """One running calculator graph: image in, packets of every output stream out."""

    def __init__(self, config: GraphConfig, side_packets: Mapping[str, bool] | None = None) -> None:
        self._packets: dict[str, Any] = {}
        self._timestamp = 0
        self._takes_roi = "roi" in config.input_stream
        self._graph = calculator_graph.CalculatorGraph(graph_config=config)
        for stream in config.output_stream:
            name = stream.split(":")[-1]
            self._graph.observe_output_stream(name, self._packets.__setitem__, False)
        self._graph.start_run({key: packet_creator.create_bool(value) for key, value in (side_packets or {}).items()})

    def run(self, image_rgb: RGBImage) -> dict[str, Any]:
        """Process one HxWx3 uint8 RGB image; a stream that stayed silent is missing from the answer."""
        self._packets.clear()
        self._timestamp += 1
        inputs = {"image": packet_creator.create_image_frame(image_format=_SRGB, data=image_rgb)}
        if self._takes_roi:
            inputs["roi"] = packet_creator.create_proto(_WHOLE_IMAGE)
        for stream, packet in inputs.items():
            self._graph.add_packet_to_input_stream(stream, packet.at(self._timestamp))
        self._graph.wait_until_idle()
        return dict(self._packets)

    def close(self) -> None:
        self._graph.close()


class GraphPool:
    """Lends each graph to one caller at a time; builds up to `size` of them when asked."""

    def __init__(self, build: Callable[[], Graph], size: int) -> None:
        self._build = build
        self._slots: queue.LifoQueue[Graph | None] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(None)

    @contextmanager
    def borrow(self) -> Iterator[Graph]:
        slot = self._slots.get()
        graph = None
        try:
            graph = slot or self._build()
            yield graph
        except BaseException:
            # A graph that failed once is in an error state for good: the next caller builds a fresh one.
            graph = None
            raise
        finally:
            self._slots.put(graph)

    def close(self) -> None:
        for _ in range(self._slots.qsize()):
            if (graph := self._slots.get()) is not None:
                graph.close()


def expand(text: str) -> GraphConfig:
    """The graph written in `text`, with its subgraphs from the wheel filled in."""
    resource_util.set_resource_dir(str(Path(mediapipe.__file__).parent.parent))
    validated = validated_graph_config.ValidatedGraphConfig()
    validated.initialize(graph_config=text)
    config = GraphConfig()
    config.ParseFromString(validated.binary_config)
    return config


def proto(packet: Any) -> Any:
    """The protocol buffer in a packet."""
    return packet_getter.get_proto(packet)


def proto_list(packet: Any | None) -> list[Any]:
    """The protocol buffers in a packet; none for a stream that stayed silent."""
    return [] if packet is None else list(packet_getter.get_proto_list(packet))


def number(packet: Any) -> float:
    """The number in a packet."""
    return float(packet_getter.get_float(packet))


def float_image(packet: Any) -> FloatArray:
    """HxW float32: a one-channel picture in a packet, copied."""
    return np.array(packet_getter.get_image_frame(packet).numpy_view(), np.float32).squeeze()
