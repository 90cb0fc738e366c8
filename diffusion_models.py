"""Diffusion pipelines from this machine's disk: the one place that loads PyTorch and diffusers.

Both take seconds to import, so nothing at the top of a module does: the functions here import them when a pipeline is
asked for. Nothing is ever downloaded: `service/hub_models.py` says where files lie, and how to get those that don't.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

from service.errors import ModelUnavailableError

logger = logging.getLogger(__name__)

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
Dtype: TypeAlias = Literal["auto", "bf16", "fp16", "fp32"]
Offload: TypeAlias = Literal["none", "model"]
SchedulerName: TypeAlias = Literal[
    "default", "dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_ancestral", "unipc", "ddim", "lcm", "few_step"
]

Pipeline: TypeAlias = Any
"""A diffusers pipeline. Its type would be Any anyway: the library is typed in part only."""

INSTALL = "make install-generation"
INDEX = "model_index.json"
LORA_RANK = 128
"""Largest rank of a LoRA that a compiled network takes without being compiled again."""

_SCHEDULERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "ddim": ("DDIMScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    # What SDXL-Lightning and Hyper-SD were distilled for: Euler, whose first step is the last of training.
    "few_step": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
}


@dataclass(frozen=True, slots=True)
class IPAdapterFiles:
    """An IP-Adapter: `weights` and `image_encoder` are paths inside `folder`; no encoder where faces are embedded."""

    folder: Path
    weights: str
    image_encoder: str | None


@dataclass(frozen=True, slots=True)
class PipelineFiles:
    """A pipeline: a diffusers folder, or a single checkpoint whose configuration the folder gives."""

    folder: Path
    checkpoint: Path | None = None
    ip_adapter: IPAdapterFiles | None = None


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """How a pipeline runs.

    Attributes:
        device: auto is CUDA where PyTorch finds it.
        dtype: auto is bf16 on a GPU that has it, else fp16; fp32 on a CPU.
        compile: compile the blocks that repeat: a minute at the first picture of a size, faster from then on.
        offload: `model` keeps the networks in main memory and moves one at a time to the GPU.
    """

    device: Device = "auto"
    dtype: Dtype = "auto"
    compile: bool = False
    offload: Offload = "none"


def missing_libraries() -> str | None:
    """What to do where PyTorch or diffusers isn't installed; None where they are. Imports nothing."""
    if all(find_spec(name) for name in ("torch", "diffusers", "transformers", "peft", "accelerate")):
        return None
    return f"Generating illustrations needs PyTorch and diffusers. Install them with `{INSTALL}`."


def load_pipeline(
    files: PipelineFiles, options: PipelineOptions, *, pipeline_class: str | None = None, **components: Any
) -> Pipeline:
    """A pipeline, ready to be called from one thread at a time.

    `pipeline_class` is a class of diffusers; without it, the one that makes pictures from text with this model.
    `components` are given to it as they are, a ControlNet for example.

    Raises:
        ModelUnavailableError: PyTorch, a file or the GPU is missing, or a file is damaged.
    """
    if reason := missing_libraries():
        raise ModelUnavailableError(reason)
    _quieten()
    import torch

    device = torch_device(options.device)
    dtype = torch_dtype(options)
    with _telling_what_is_damaged(files.checkpoint or files.folder):
        pipeline = _read(files, dtype, pipeline_class, components)
        if files.ip_adapter:
            _load_ip_adapter(pipeline, files.ip_adapter)
    pipeline.set_progress_bar_config(disable=True)
    try:
        place(pipeline, device, options.offload)
    except torch.OutOfMemoryError:
        logger.warning("The GPU's memory does not hold the whole model: its networks are offloaded.")
        place(pipeline, device, "model")
    if options.compile:
        _compile(pipeline)
    return pipeline


def load_controlnet(folder: Path, options: PipelineOptions) -> Any:
    """A ControlNet, to be given to `load_pipeline` as `controlnet`.

    Raises:
        ModelUnavailableError: as `load_pipeline`.
    """
    if reason := missing_libraries():
        raise ModelUnavailableError(reason)
    _quieten()
    from diffusers import ControlNetModel

    with _telling_what_is_damaged(folder):
        return ControlNetModel.from_pretrained(folder, dtype=torch_dtype(options), local_files_only=True)


@contextmanager
def _telling_what_is_damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        logger.warning("The diffusion model in %s can't be loaded.", path, exc_info=True)
        raise ModelUnavailableError(
            "The image model's files are damaged, incomplete or of a kind that can't be used; the service's log says "
            "more. Remove its folder and get it again, as GET /models says."
        ) from error


def torch_device(device: Device) -> str:
    """The device's name for PyTorch.

    Raises:
        ModelUnavailableError: `cuda` is asked for and PyTorch finds none.
    """
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ModelUnavailableError(
            "DEVICE=cuda, but PyTorch finds no CUDA GPU: look at `nvidia-smi`, or set DEVICE=auto."
        )
    return "cuda"


def torch_dtype(options: PipelineOptions) -> Any:
    """PyTorch's dtype for these options.

    Raises:
        ModelUnavailableError: as `torch_device`.
    """
    import torch

    dtype = options.dtype
    if dtype == "auto":
        on_cpu = torch_device(options.device) == "cpu"
        dtype = "fp32" if on_cpu else "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]


def place(pipeline: Pipeline, device: str, offload: Offload) -> None:
    """Put a pipeline's networks where they run. On a CPU there is nowhere to offload to."""
    import torch

    if device == "cpu" or offload == "none":
        pipeline.to(device)
    else:
        pipeline.enable_model_cpu_offload(device=device)
    if device != "cpu":
        for name in ("unet", "vae", "controlnet"):
            if isinstance(network := getattr(pipeline, name, None), torch.nn.Module):
                network.to(memory_format=torch.channels_last)


def denoiser(pipeline: Pipeline) -> Any:
    """The network that every step runs: a UNet or a transformer; None where the pipeline combines several."""
    return getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)


def make_scheduler(own: Any, name: SchedulerName) -> Any:
    """A scheduler with the noise schedule of `own`, the one that came with the model.

    Raises:
        ValueError: this model was not made for it: a flow that is straightened takes no scheduler of a diffusion.
    """
    import diffusers

    if name == "default":
        return type(own).from_config(own.config)
    if "beta_schedule" not in own.config:
        raise ValueError(f"the model's own scheduler is {type(own).__name__}")
    class_name, changes = _SCHEDULERS[name]
    return getattr(diffusers, class_name).from_config(own.config, **changes)


def _read(files: PipelineFiles, dtype: Any, pipeline_class: str | None, components: Mapping[str, Any]) -> Pipeline:
    import diffusers

    read_class = getattr(diffusers, pipeline_class) if pipeline_class else diffusers.AutoPipelineForText2Image
    if files.checkpoint:
        if not pipeline_class:
            read_class = _text_to_image_class(files.folder)
        return read_class.from_single_file(
            str(files.checkpoint), config=str(files.folder), dtype=dtype, local_files_only=True, **components
        )
    variant = "fp16" if _has_only_fp16(files.folder) else None
    return read_class.from_pretrained(files.folder, dtype=dtype, variant=variant, local_files_only=True, **components)


def _text_to_image_class(folder: Path) -> Any:
    """What AutoPipeline would take for this folder."""
    from diffusers.pipelines import auto_pipeline

    name = json.loads((folder / INDEX).read_text(encoding="utf-8"))["_class_name"]
    return auto_pipeline._get_task_class(auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING, name)


def _has_only_fp16(folder: Path) -> bool:
    """Whether the weights were published, or fetched, in half precision only: their names then say so."""
    weights = [path.name for path in folder.glob("*/*.safetensors")]
    return any(".fp16." in name for name in weights) and all(".fp16." in name for name in weights)


def _load_ip_adapter(pipeline: Pipeline, files: IPAdapterFiles) -> None:
    if not hasattr(pipeline, "load_ip_adapter") or getattr(pipeline, "unet", None) is None:
        raise ModelUnavailableError(
            f"ENABLE_IP_ADAPTER=true, but no IP-Adapter can be used with {type(pipeline).__name__}. "
            "Choose an SDXL or Stable Diffusion model as MODEL_PATH, or set ENABLE_IP_ADAPTER=false."
        )
    subfolder, _, name = files.weights.rpartition("/")
    pipeline.load_ip_adapter(
        str(files.folder),
        subfolder=subfolder,
        weight_name=name,
        image_encoder_folder=files.image_encoder,
        local_files_only=True,
    )


def _compile(pipeline: Pipeline) -> None:
    """The repeated blocks only: as fast as compiling everything, and ready eight times sooner (diffusers' docs)."""
    network = denoiser(pipeline)
    if network is None or not getattr(network, "_repeated_blocks", None):
        logger.warning("GENERATION_COMPILE has no effect: %s names no blocks that repeat.", type(pipeline).__name__)
        return
    if hasattr(pipeline, "enable_lora_hotswap"):
        pipeline.enable_lora_hotswap(target_rank=LORA_RANK)
    network.compile_repeated_blocks(fullgraph=True)


def _quieten() -> None:
    """Their progress bars and advice are for a notebook; what matters is raised."""
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
