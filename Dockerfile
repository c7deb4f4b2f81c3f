# A talking portrait in a container, on the CPU:
#   docker build -t triportrait .
#   docker run --rm -v "$PWD:/work" triportrait animate photo.jpg voice.wav -o talking.mp4
# Files are written as whoever owns the folder when it is run with --user "$(id -u):$(id -g)".
FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE LICENSE-APACHE-2.0 NOTICE ./
COPY requirements/core.txt requirements/core.txt
COPY src src
RUN python -m venv /opt/triportrait \
    && /opt/triportrait/bin/pip install --no-cache-dir --no-compile --require-hashes -r requirements/core.txt \
    && /opt/triportrait/bin/pip install --no-cache-dir --no-compile --no-deps . \
    # The Rust library in c2pa's wheel serves compilers alone.
    && rm -rf /opt/triportrait/lib/python3*/site-packages/pip /opt/triportrait/bin/pip* \
    && rm -f /opt/triportrait/lib/python3*/site-packages/c2pa/libs/*.rlib

FROM python:3.13-slim
COPY --from=build /opt/triportrait /opt/triportrait
RUN useradd --create-home --uid 1000 triportrait && mkdir /work /cache && chmod 1777 /work /cache
USER triportrait
# Compiled kernels live as long as the container, or as the volume that is put here.
ENV NUMBA_CACHE_DIR=/cache PYTHONUNBUFFERED=1
WORKDIR /work
ENTRYPOINT ["/opt/triportrait/bin/triportrait"]
CMD ["--help"]
