// Package cli is the xdpipe command line, one file for each verb. A binary with
// stages of its own is a main that imports them and calls Main:
//
//	package main
//
//	import (
//		"github.com/xdpipe/xdpipe/cli"
//		_ "github.com/xdpipe/xdpipe/pipeline/stages" // the built-in ones
//
//		_ "example.com/acme/stage"
//	)
//
//	func main() { cli.Main() }
//
// xdpipe build writes and compiles such a main.
package cli
