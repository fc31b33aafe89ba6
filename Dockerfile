# daelab on a CPU, as a user without rights.
#   docker build --tag daelab .
#   docker run --rm --user "$(id -u)" --volume "$PWD:/work" daelab denoise noisy.png
#   docker run --rm --publish 127.0.0.1:8000:8000 --env DAELAB_TOKEN daelab serve --host 0.0.0.0
FROM python:3.11-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-bookworm
# torch by itself would come with gigabytes for a GPU
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir "daelab[report,web] @ file://$(echo /wheels/daelab-*.whl)" \
    && useradd --create-home --uid 1000 daelab \
    && install --directory --owner=daelab /work
USER 1000
WORKDIR /work
EXPOSE 8000
ENTRYPOINT ["daelab"]
CMD ["--help"]
