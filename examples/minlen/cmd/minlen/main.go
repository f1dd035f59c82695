// Command minlen is xdpipe with the stage minlen inside, as xdpipe build makes
// it. Add an import for each further plugin.
package main

import (
	"github.com/xdpipe/xdpipe/cli"
	_ "github.com/xdpipe/xdpipe/pipeline/stages" // the built-in stages

	_ "github.com/xdpipe/xdpipe/examples/minlen"
)

func main() { cli.Main() }
