# A server in a container. docs/server.md says how to run it.
#   docker build -t hyprstream .
FROM debian:bookworm-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates
WORKDIR /src
# What changes seldom first: compilers, libraries and llama.cpp's source stay cached.
COPY pins.env ./
COPY scripts scripts
RUN scripts/bootstrap build flight
COPY . .
RUN cmake --preset release -DCMAKE_BUILD_TYPE=Release -DHS_TESTS=OFF \
    && cmake --build --preset release \
    && cmake --install build --prefix /usr/local --strip

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libcurl4 libedit2 libgomp1 \
        libjansson4 liblapacke libmicrohttpd12 libnghttp2-14 libpcre2-8-0 libprotobuf-c1 libsqlite3-0 libssl3 \
        libstdc++6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 999 --home-dir /var/lib/hyprstream --create-home hyprstream
COPY --from=build /usr/local /usr/local
RUN ldconfig
USER hyprstream
ENV HYPRSTREAM_HOME=/var/lib/hyprstream HYPRSTREAM_HOST=0.0.0.0
VOLUME /var/lib/hyprstream
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=10m --interval=30s --timeout=15s CMD ["hyprstream", "ps", "--check"]
ENTRYPOINT ["hyprstream"]
CMD ["serve"]
