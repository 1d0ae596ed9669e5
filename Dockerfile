FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /postern ./cmd/postern

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --home-dir /var/lib/postern --create-home --shell /usr/sbin/nologin postern
COPY --from=build /postern /usr/local/bin/postern
USER postern
VOLUME /var/lib/postern
EXPOSE 2525 9125
HEALTHCHECK --interval=30s --timeout=5s CMD ["/usr/local/bin/postern", "check", "--offline"]
ENTRYPOINT ["/usr/local/bin/postern"]
CMD ["serve"]
