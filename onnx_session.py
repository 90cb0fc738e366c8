"""Small ONNX models on the CPU, each with the cores that it was given and no more."""

from __future__ import annotations

from pathlib import Path

import onnxruntime


def cpu_session(file: Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session that runs on so many cores; one where a run is too short to be shared.

    Raises:
        Exception: the file can't be run. onnxruntime's own exceptions share no base below Exception.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
