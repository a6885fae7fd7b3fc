# Two images from one file:
#
# For the Pods of workloads, one static program and nothing else:
#   docker build --target helper  -t podgrace/podgrace-helper .
# The webhook and the command line, Python and podgrace, no shell, no pip:
#   docker build --target webhook -t podgrace/podgrace .
#
# Both are for linux/amd64 and linux/arm64 (docker buildx build --platform
# linux/amd64,linux/arm64); docs/install.md has the whole recipe of a release. The base is an index
# of both, pinned by digest: Python 3.11.16 on Debian 12. To find a newer one:
# `docker buildx imagetools inspect python:3.11-slim-bookworm`; to use another:
# --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

# The compiler comes from the package index by hash and builds for both architectures on either: no
# emulation, no distribution's toolchain.
FROM --platform=$BUILDPLATFORM ${PYTHON_IMAGE} AS helper-build
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends make >/dev/null
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python3 -m venv /venv && /venv/bin/pip install --no-cache-dir --no-compile --require-hashes \
    -r requirements/build.txt
COPY pyproject.toml ./
COPY webhook/profiles.toml webhook/launchers.toml webhook/
COPY entrypoint entrypoint
# The compiler makes musl first, with thousands of files open.
RUN test "$(ulimit -n)" -ge 4096 || { exec >&2; \
    echo "too few open files, $(ulimit -n): build with --ulimit nofile=4096:4096 or more"; exit 1; }
RUN make -C entrypoint PYTHON=/venv/bin/python
ARG TARGETARCH
RUN case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
        amd64) cpu=x86_64 ;; arm64) cpu=aarch64 ;; *) exit 1 ;; esac \
    && mkdir /out && cp "entrypoint/build/podgrace-helper-$cpu" /out/podgrace-helper \
    && chmod 755 /out/podgrace-helper

FROM scratch AS helper
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title="podgrace-helper" \
      org.opencontainers.image.description="Drains a Pod's requests, then stops its server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=helper-build /out/podgrace-helper /podgrace-helper
USER 65532:65532
ENTRYPOINT ["/podgrace-helper"]

# Everything by hash from the locks; the package itself without the network.
FROM ${PYTHON_IMAGE} AS webhook-build
WORKDIR /src
COPY requirements/runtime.txt requirements/backend.txt requirements/
RUN python3 -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements/backend.txt \
    && /venv/bin/pip install --no-cache-dir --no-compile --require-hashes --target /application \
        -r requirements/runtime.txt
COPY LICENSE README.md pyproject.toml ./
COPY certs certs
COPY webhook webhook
RUN /venv/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --no-index \
        --target /wheel . \
    && rm -rf /wheel/bin /application/bin && cp -r /wheel/. /application/
COPY .ci/image_root.py ./
RUN /venv/bin/python image_root.py /application /root-of-image

FROM scratch AS webhook
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title="podgrace" \
      org.opencontainers.image.description="Rolling updates of any workload, no request lost" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=webhook-build /root-of-image /
ENV PATH=/usr/bin PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["/usr/bin/podgrace"]
CMD ["serve"]
