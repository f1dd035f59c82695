// Command xdpipe runs packet pipelines on AF_XDP sockets. See xdpipe help.
package main

import (
	"github.com/xdpipe/xdpipe/cli"
	_ "github.com/xdpipe/xdpipe/pipeline/stages"
)

func main() { cli.Main() }
