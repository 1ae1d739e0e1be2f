# syntax=docker/dockerfile:1

# What the program is built in: a full version, so that it is the same Go everywhere. A digest belongs to whoever fetched the image and
# checked it: --build-arg BUILDER=golang:1.26.8-bookworm@sha256:... pins that one. The program's bytes do not rest on it: the same
# sources, modules (go.sum) and Go make the same program, in any folder and on any machine.
ARG BUILDER=golang:1.26.8-bookworm

# The build runs on the builder's own platform and compiles for the one that is asked for.
FROM --platform=$BUILDPLATFORM ${BUILDER} AS build
ARG TARGETOS TARGETARCH
WORKDIR /src
# Modules first: they change less often than the code, and so stay in the cache.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
# The version that `defender-integration version`, TestConnectivity and the metrics tell.
ARG VERSION=""
# The time that files in the image have, in seconds since 1970: that of the commit (see `make docker`).
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/cache \
    GOCACHE=/cache GOTOOLCHAIN=local CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.stamped=$VERSION" -o /out/image/defender-integration ./cmd/defender-integration \
    && mkdir -p /out/image/etc/ssl/certs /out/data \
    && cp /etc/ssl/certs/ca-certificates.crt /out/image/etc/ssl/certs/ \
    && find /out -exec touch --date="@$SOURCE_DATE_EPOCH" {} +

# Nothing is in the image but the program and the authorities that Microsoft's certificates are verified with.
FROM scratch
ARG VERSION="" REVISION=""
LABEL org.opencontainers.image.title="defender-integration" \
      org.opencontainers.image.description="The Microsoft Defender integration of a security-validation platform" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /out/image/ /
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root. The folder belongs to it, and so does a new volume.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
USER 65532:65532
# Journals, the registry and the sealing key: all that is ever written. The root file system can be read-only, and there is no /tmp.
VOLUME /data
# The server listens on 127.0.0.1:7443 of its own network namespace, which containers of one pod share, and on a unix socket, which
# healthcheck uses however TCP is secured. To serve other machines, set DEFENDER_INTEGRATION_LISTEN=:7443 and the three
# DEFENDER_INTEGRATION_TLS_* variables. deploy/kubernetes has both.
ENV DEFENDER_INTEGRATION_DATA_DIR=/data \
    DEFENDER_INTEGRATION_UNIX_SOCKET=/data/server.sock
EXPOSE 7443
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/defender-integration", "healthcheck"]
ENTRYPOINT ["/defender-integration"]
CMD ["serve"]
