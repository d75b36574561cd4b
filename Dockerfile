# The bench in a container. For CPUs:
#   docker build -t delightsam-bench .
#   docker run --rm -v "$PWD/runs:/work/runs" delightsam-bench run suite=domain_generalization
# For NVIDIA GPUs, by a CUDA that PyTorch builds for (then: docker run --gpus all --shm-size 1g ...):
#   docker build --build-arg TORCH=cu128 -t delightsam-bench:cuda .
FROM python:3.12-slim-bookworm

ARG TORCH=cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1

# First and alone: the largest layer, which a change of the bench does not touch.
RUN pip install "torch>=2.9,<3" "torchvision>=0.24,<1" --index-url "https://download.pytorch.org/whl/${TORCH}"

WORKDIR /opt/bench
COPY pyproject.toml README.md LICENSE ./
COPY harness harness
COPY baselines baselines
COPY delightsam delightsam
COPY reports reports
COPY suites suites
# The versions are pyproject.toml's.
# hadolint ignore=DL3013
RUN pip install ".[networks,weights,nifti]"

RUN useradd --uid 1000 --create-home bench && mkdir -p /work/runs && chown -R bench /work
USER 1000
WORKDIR /work
ENTRYPOINT ["python", "-m", "harness"]
CMD ["doctor"]
