# The image is the static binary and nothing else.
#
# It runs with these capabilities, and with the host's network namespace or one
# that the interfaces were moved into:
#
#   NET_ADMIN  attach the XDP program, read and set the interface
#   NET_RAW    open AF_XDP sockets
#   BPF        load the program and its maps
#   PERFMON    let the program look into packets: the verifier wants it
#   IPC_LOCK   pin the packet memory beyond the locked-memory limit
#   SYS_ADMIN  only for other network namespaces (netns:, demo, lab)
#
#   docker run --rm --network host \
#     --cap-drop ALL --cap-add NET_ADMIN --cap-add NET_RAW --cap-add BPF --cap-add PERFMON --cap-add IPC_LOCK \
#     -v /run/xdpipe:/run/xdpipe -v "$PWD/bridge.yaml:/bridge.yaml:ro" xdpipe run /bridge.yaml

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build

FROM scratch
COPY --from=build /src/bin/xdpipe /xdpipe
ENTRYPOINT ["/xdpipe"]
