# syntax=docker/dockerfile:1
# Two stages: the toolchain stays behind, the image holds the binary, its settings and the root
# certificates.
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release --bin happening \
    && install -D target/release/happening /out/happening

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin happening
COPY --from=build /out/happening /usr/local/bin/happening
COPY config/container.toml /etc/happening/container.toml
ENV HAPPENING_CONFIG=/etc/happening/container.toml
USER 10001
EXPOSE 2208 2209
# Ready means: 200 from /health/ready. The image's own bash asks, so that no client is needed.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/${BE_PORT:-2208} && printf 'GET /health/ready HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r answer <&3 && [[ $answer == 'HTTP/1.1 200'* ]]"]
ENTRYPOINT ["happening"]
CMD ["serve"]
