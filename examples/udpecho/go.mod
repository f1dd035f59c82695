module github.com/xdpipe/xdpipe/examples/udpecho

go 1.26.0

require github.com/xdpipe/xdpipe v0.0.0

// To use a release: remove this line and go get github.com/xdpipe/xdpipe@latest
replace github.com/xdpipe/xdpipe => ../..
