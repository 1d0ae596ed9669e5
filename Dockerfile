FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /postern ./cmd/postern

# Not an empty image: certificates of the CAs are needed to verify next hops, and a
# shell to look around (docker compose exec gateway postern track ...).
FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 2525 --home-dir /var/lib/postern --shell /usr/sbin/nologin postern \
 && install -d -o postern -g postern -m 0700 /var/lib/postern
COPY --from=build /postern /usr/local/bin/postern
USER postern
VOLUME /var/lib/postern
# [listen] mx is a port over 1024 in a container: no privilege is needed then.
EXPOSE 2525 9125
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9125 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r status <&3 && [[ $status == *' 200 '* ]]"]
ENTRYPOINT ["/usr/local/bin/postern"]
CMD ["serve"]
