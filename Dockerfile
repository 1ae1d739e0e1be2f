# syntax=docker/dockerfile:1

# The build runs on the builder's own platform and compiles for the one that is asked for.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS TARGETARCH
# The version that `defender-integration version` and TestConnectivity tell.
ARG VERSION=""
WORKDIR /src
# Modules first: they change less often than the code, and so stay in the cache.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/cache \
    GOCACHE=/cache CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -ldflags "-s -w -X main.stamped=$VERSION" -o /out/defender-integration ./cmd/defender-integration \
    && mkdir /out/data

# Nothing is in the image but the program and the authorities that Microsoft's certificates are verified with.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/defender-integration /defender-integration
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root. The folder belongs to it, and so does a new volume.
COPY --from=build --chown=65532:65532 --chmod=0700 /out/data /data
USER 65532:65532
# Journals, the registry and the sealing key.
VOLUME /data
# The server listens on 127.0.0.1:7443 of its own network namespace, which containers of one pod share, and on a unix socket, which
# healthcheck uses however TCP is secured. To serve other machines, set DEFENDER_INTEGRATION_LISTEN=:7443 and the three
# DEFENDER_INTEGRATION_TLS_* variables.
ENV DEFENDER_INTEGRATION_DATA_DIR=/data \
    DEFENDER_INTEGRATION_UNIX_SOCKET=/data/server.sock
EXPOSE 7443
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s CMD ["/defender-integration", "healthcheck"]
ENTRYPOINT ["/defender-integration"]
CMD ["serve"]
