# One image for workers, dashboard and the rest. CUDA needs no base image of its own: torch's wheels bring it.
#   docker build -t archsearch .
#   docker build -t archsearch --build-arg TORCH=cpu --build-arg TORCH_INDEX=<pip index of CPU builds, see pytorch.org> .

FROM python:3.11-slim-bookworm AS build
ARG TORCH=cuda
ARG TORCH_INDEX=
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_COMPILE=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv /venv
# torch first: a layer of its own, that changes of the code leave alone
RUN if [ "$TORCH" = cpu ]; then \
        /venv/bin/pip install --no-deps --index-url "${TORCH_INDEX:?--build-arg TORCH=cpu needs TORCH_INDEX}" \
            'torch>=2.10,<2.15' 'torchvision>=0.25'; \
    elif [ "$TORCH" = cuda ]; then \
        /venv/bin/pip install 'torch>=2.10,<2.15' 'torchvision>=0.25'; \
    else \
        echo "TORCH must be cuda or cpu, got $TORCH" >&2; exit 2; \
    fi
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY search search
RUN /venv/bin/pip install .

FROM python:3.11-slim-bookworm
RUN groupadd --gid 10001 archsearch \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin archsearch \
    && install -d -o 10001 -g 10001 /data /checkpoints /artifacts /gpu-locks
COPY --from=build /venv /venv
WORKDIR /app
COPY studies studies
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ARCHSEARCH_DATA=/data ARCHSEARCH_CHECKPOINTS=/checkpoints ARCHSEARCH_ARTIFACTS=/artifacts \
    ARCHSEARCH_GPU_LOCKS=/gpu-locks
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["search.run", "--help"]
