# syntax=docker/dockerfile:1
# docker build -t illustration-personalizer .                    the CPU service
# docker build -t illustration-personalizer:cuda --target cuda . for NVIDIA GPUs: also generates illustrations

FROM python:3.12-slim AS base
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
# --no-deps: the file is a complete compile, see requirements-overrides.txt.
COPY requirements.txt .
RUN pip install --no-deps -r requirements.txt
RUN useradd --uid 1000 --create-home app && mkdir uploads outputs models data && chown app:app uploads outputs models data
VOLUME ["/app/uploads", "/app/outputs", "/app/models", "/app/data"]
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "from urllib.request import urlopen; from config import Settings; urlopen(f'http://127.0.0.1:{Settings().api_port}/health/live', timeout=4)"]
CMD ["python", "main.py"]

FROM base AS cuda
# torch brings NVIDIA's libraries, at versions that onnxruntime takes as well: requirements-gpu.txt would be a second set.
COPY requirements-generation.txt .
RUN pip install -c requirements.txt -r requirements-generation.txt
ENV DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HF_HOME=/app/models/huggingface LORA_DIR=/app/models/loras
COPY . .
USER app

# Last, so that it is what a build without --target makes.
FROM base AS cpu
ENV DEVICE=cpu
COPY . .
USER app
