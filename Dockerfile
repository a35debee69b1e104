# One image for every service: `docker run amends:local <service>`. Nothing here needs BuildKit.
#
#   docker build -t amends:local .                              the release build
#   docker build -t amends:local --build-arg PROFILE=dev .      quicker to build, slower to run
#   docker build -t amends-base --target base .                 all but the program: for a binary that was built elsewhere

ARG RUST_IMAGE=rust:1.95-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUNTIME_IMAGE} AS base
# A number, so that orchestrators of containers can see that it is not root.
RUN groupadd --system --gid 10001 amends \
 && useradd --system --uid 10001 --gid amends --home-dir /var/lib/amends --shell /usr/sbin/nologin amends \
 && install -d -o amends -g amends -m 0750 /var/lib/amends
ENV TZ=UTC AMENDS_DATA_DIR=/var/lib/amends
WORKDIR /var/lib/amends
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/amends"]
CMD ["--help"]

FROM ${RUST_IMAGE} AS build
ARG PROFILE=release
# Nobody comes back for the incremental state.
ENV CARGO_INCREMENTAL=0
WORKDIR /src
COPY . .
# Cargo puts the profile `dev` into a folder named `debug`.
RUN cargo build --locked --profile "${PROFILE}" --package amends \
 && folder="${PROFILE}" && if [ "${folder}" = dev ]; then folder=debug; fi \
 && install -m 0755 "target/${folder}/amends" /amends

FROM base AS runtime
COPY --from=build /amends /usr/local/bin/amends
