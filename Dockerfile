# splitter on a processor:   docker build -t songsplitter .
# on an NVIDIA card:         docker build -t songsplitter --build-arg TORCH=https://download.pytorch.org/whl/cu126 .
#
#     docker run --rm -v "$PWD:/songs" songsplitter separate song.mp3
#     docker run --rm --gpus all -v "$PWD:/songs" songsplitter separate song.mp3 --device cuda
FROM python:3.12-slim AS build
ARG TORCH=https://download.pytorch.org/whl/cpu
WORKDIR /source
RUN python -m venv /splitter && /splitter/bin/pip install --no-cache-dir torch --index-url "$TORCH"
COPY pyproject.toml README.md LICENSE ./
COPY docs/splitter.1 docs/
COPY models models
COPY splitter splitter
RUN /splitter/bin/pip install --no-cache-dir '.[plots]'

FROM python:3.12-slim
COPY --from=build /splitter /splitter
ENV PATH=/splitter/bin:$PATH MPLCONFIGDIR=/tmp/matplotlib
RUN useradd --create-home singer
USER singer
WORKDIR /songs
ENTRYPOINT ["splitter"]
CMD ["--help"]
