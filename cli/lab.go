package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/xdpipe/xdpipe/lab"
)

func (a *app) lab() *cobra.Command {
	root := &cobra.Command{
		Use:   "lab",
		Short: "veth pairs in network namespaces, to try pipelines on",
		Long: `lab up makes three network namespaces with two veth pairs between them:

  client: client0 ⇄ veth-a :xdpipe: veth-b ⇄ server0 :server

client0 and server0 have addresses of one subnet; nothing connects them until
an instance forwards between veth-a and veth-b:

  xdpipe lab up
  xdpipe run -i veth-a,veth-b --netns lab-xdpipe --all 'parse ! count' &
  xdpipe lab exec client -- ping -c 3 198.51.100.2
  xdpipe lab down`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(a.labUp(), a.labExec(), a.labDown())
	return root
}

func labName(cmd *cobra.Command, name *string) {
	cmd.Flags().StringVar(name, "name", "lab", "name of the lab")
}

func (a *app) labUp() *cobra.Command {
	var t lab.Topology
	cmd := &cobra.Command{
		Use:   "up",
		Short: "make the namespaces and veth pairs",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			t.RunDir = a.runDir
			l, line, err := lab.Up(t)
			if err != nil {
				return err
			}
			defer l.Close() // it stays up
			type end struct {
				Namespace string   `json:"netns"`
				Interface string   `json:"interface"`
				Addresses []string `json:"addresses"`
			}
			d := lab.DefaultTopology()
			var ends []end
			for _, e := range []struct {
				ns, link string
				addrs    []string
			}{
				{line.Client.Name(), lab.ClientLink, texts(d.Client)}, {line.Xdpipe.Name(), lab.ClientPort, nil},
				{line.Xdpipe.Name(), lab.ServerPort, nil}, {line.Server.Name(), lab.ServerLink, texts(d.Server)},
			} {
				ends = append(ends, end{e.ns, e.link, append([]string{}, e.addrs...)})
			}
			if a.json {
				return a.printJSON(map[string]any{"name": t.Name, "interfaces": ends})
			}
			for _, e := range ends {
				fmt.Fprintf(a.out, "%-12s %-8s %s\n", e.Namespace, e.Interface, strings.Join(e.Addresses, " "))
			}
			return nil
		},
	}
	labName(cmd, &t.Name)
	cmd.Flags().IntVar(&t.Queues, "queues", 1, "queues of each veth end")
	cmd.Flags().IntVar(&t.MTU, "mtu", 1500, "MTU in bytes")
	return cmd
}

func texts[T fmt.Stringer](values []T) []string {
	var all []string
	for _, v := range values {
		all = append(all, v.String())
	}
	return all
}

func (a *app) labExec() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "exec NAMESPACE -- COMMAND [ARG…]",
		Short: "run a command inside client, xdpipe or server",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(command(args)) == 0 {
				return usagef("lab exec: want a namespace (client, xdpipe or server) and a command")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Load(a.runDir, name)
			if err != nil {
				return err
			}
			defer l.Close()
			ns, err := l.Namespace(args[0])
			if err != nil {
				return err
			}
			run := command(args)
			// Not the context of signals, which would kill it: see passSignals.
			c := ns.Command(context.WithoutCancel(cmd.Context()), run[0], run[1:]...)
			c.Sysfs = true
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, a.out, a.err
			stop := make(chan os.Signal, 4)
			signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
			defer signal.Stop(stop)
			if err := c.Start(); err != nil {
				return err
			}
			ended := make(chan struct{})
			go passSignals(stop, ended, c.Process)
			err = c.Wait()
			close(ended)
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				return statusOf(exit)
			}
			return err
		},
	}
	cmd.Flags().SetInterspersed(false)
	labName(cmd, &name)
	return cmd
}

// command is what lab exec is to run: all that follows the namespace, without the
// -- before it, which flag parsing has not seen, since it ended at the namespace.
func command(args []string) []string {
	switch {
	case len(args) < 2:
		return nil
	case args[1] == "--":
		return args[2:]
	}
	return args[1:]
}

// passSignals leaves it to the command what a signal does. A terminal sends its
// interrupts to the command as well, which should not get them twice.
func passSignals(signals <-chan os.Signal, ended <-chan struct{}, to *os.Process) {
	terminal := term.IsTerminal(int(os.Stdin.Fd()))
	for {
		select {
		case s := <-signals:
			if s != os.Interrupt || !terminal {
				_ = to.Signal(s) // it has ended
			}
		case <-ended:
			return
		}
	}
}

// statusOf is the command's exit status as a shell has it: 128 and the signal
// for one that ended it.
func statusOf(exit *exec.ExitError) exitStatus {
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitStatus(128 + int(ws.Signal()))
	}
	return exitStatus(exit.ExitCode())
}

// An exitStatus is that of a command run for the user, passed on.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func (a *app) labDown() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "down",
		Short: "remove the namespaces and everything in them",
		Args:  noArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := lab.Down(a.runDir, name); err != nil {
				return err
			}
			if a.json {
				return a.printJSON(map[string]any{"name": name, "down": true})
			}
			fmt.Fprintf(a.out, "lab %s is down\n", name)
			return nil
		},
	}
	labName(cmd, &name)
	return cmd
}
