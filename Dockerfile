# The broker and the uploader; and, as target `garage`, the store that docker-compose.yml puts behind them.
#
#   docker build -t broker .
#   docker run --rm -p 127.0.0.1:5000:5000 -v broker:/var/lib/broker -e BROKER_TOKENS=… -e AWS_… broker
#
# Inside a container the broker listens on every address, so it starts only with authentication configured.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked -p broker -p uploader \
    && install -D -t /out target/release/broker target/release/uploader

# Garage's image holds one program and no shell: its settings are copied in, its secrets come from the environment.
FROM dxflrs/garage:v2.5.0 AS garage
COPY <<TOML /etc/garage.toml
metadata_dir = "/var/lib/garage/meta"
data_dir = "/var/lib/garage/data"
db_engine = "lmdb"
replication_factor = 1
rpc_bind_addr = "127.0.0.1:3901"
rpc_public_addr = "127.0.0.1:3901"

[s3_api]
api_bind_addr = "0.0.0.0:3900"
s3_region = "garage"
root_domain = ".localhost"
TOML

FROM debian:bookworm-slim AS broker
# Root certificates from the build image, so that nothing has to be installed here.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/broker /out/uploader /usr/local/bin/
RUN useradd --system --uid 10001 --home-dir /var/lib/broker --shell /usr/sbin/nologin broker \
    && install -d -o broker -g broker -m 0700 /var/lib/broker
USER 10001:10001
WORKDIR /var/lib/broker
ENV BROKER_LISTEN=0.0.0.0:5000 BROKER_DATA_DIR=/var/lib/broker
VOLUME /var/lib/broker
EXPOSE 5000
# The image has no HTTP client; bash opens the connection itself.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/5000 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
ENTRYPOINT ["broker"]
