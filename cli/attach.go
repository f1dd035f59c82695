package cli

import (
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/xdpipe/xdpipe"
	"github.com/xdpipe/xdpipe/bpf"
	"github.com/xdpipe/xdpipe/control"
)

func (a *app) attach() *cobra.Command {
	var (
		netns, mode     string
		steer           steerFlags
		replace, insist bool
	)
	cmd := &cobra.Command{
		Use:   "attach IFACE (--all | --rule RULE… | --filter EXPR)",
		Short: "attach the steering program and pin it, for later runs",
		Long: `attach puts the steering program on the interface and pins it with its maps on
the BPF file system, so that it stays when no instance runs; run takes it over.
Until then what they would take passes to the kernel. detach removes it.`,
		Args: exactArgs("IFACE"),
		RunE: func(_ *cobra.Command, args []string) error {
			if err := steer.check("attach"); err != nil {
				return err
			}
			if !slices.Contains([]string{"native", "generic", "auto"}, mode) {
				return usagef("attach: --mode %q: want native, generic or auto", mode)
			}
			policy := bpf.Policy{All: steer.all, Filter: steer.filter()}
			for _, text := range steer.rules {
				r, err := bpf.ParseRule(text)
				if err != nil {
					return usageError{err}
				}
				policy.Rules = append(policy.Rules, r)
			}
			if err := policy.Validate(); err != nil {
				return usageError{err}
			}
			return a.withLink(netns, args[0], func(l *control.Link) error {
				if err := control.GuardDefaultRoute(l, policy.Selective(), insist); err != nil {
					return fmt.Errorf("%w (%w)", err, policy.CheckSelective())
				}
				att, err := xdpipe.AttachPinned(l, policy, control.AttachOptions{Mode: control.Mode(mode), Replace: replace}, a.bpffs)
				if err != nil {
					return err
				}
				defer att.Close()
				if a.json {
					return a.printJSON(map[string]any{"interface": l.Name, "mode": att.Mode(), "program_id": att.ProgramID(), "why_not_native": att.WhyNotNative()})
				}
				fmt.Fprintf(a.out, "%s: steering program %d attached in %s mode and pinned; steer: %s\n", l, att.ProgramID(), att.Mode(), policy.Line())
				if why := att.WhyNotNative(); why != "" {
					fmt.Fprintf(a.out, "%s: native mode was refused: %s\n", l, why)
				}
				return nil
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&netns, "netns", "", "network namespace of the interface, by name or path")
	flags.StringVar(&mode, "mode", "auto", "XDP mode: native, generic, auto")
	steer.register(flags)
	flags.BoolVar(&replace, "replace", false, "replace another XDP program on the interface; it is not put back")
	flags.BoolVar(&insist, "insist", false, "take the default route's interface though the rules are not selective")
	return cmd
}

func (a *app) detach() *cobra.Command {
	var netns string
	cmd := &cobra.Command{
		Use:   "detach IFACE",
		Short: "remove the pinned program, and what instances that died left behind",
		Long: `detach removes the steering program that attach pinned on the interface, with
its maps, and undoes what instances that died (kill -9) changed and could not
put back. It leaves running instances and foreign programs alone.`,
		Args: exactArgs("IFACE"),
		RunE: func(_ *cobra.Command, args []string) error {
			restored, left := xdpipe.RestoreStale(a.runDir)
			undone := []string{}
			for _, r := range restored {
				if r.Err == nil {
					undone = append(undone, r.String())
				}
			}
			gone, err := xdpipe.SweepPins(a.bpffs)
			undone, left = append(undone, gone...), errors.Join(left, err)
			if !a.json {
				for _, u := range undone {
					fmt.Fprintln(a.out, u)
				}
			}
			err = a.withLink(netns, args[0], func(l *control.Link) error {
				removed, err := xdpipe.Detach(l, a.bpffs)
				if err != nil {
					return err
				}
				if a.json {
					return a.printJSON(map[string]any{"interface": l.Name, "detached": removed, "restored": undone})
				}
				if removed {
					fmt.Fprintf(a.out, "%s: steering program removed\n", l)
				} else {
					fmt.Fprintf(a.out, "%s: no steering program of ours was attached\n", l)
				}
				return nil
			})
			return errors.Join(left, err)
		},
	}
	cmd.Flags().StringVar(&netns, "netns", "", "network namespace of the interface, by name or path")
	return cmd
}

// withLink calls f with the interface.
func (a *app) withLink(netns, name string, f func(*control.Link) error) error {
	ns, err := xdpipe.OpenNamespace(netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	l, err := control.LinkByName(ns, name)
	if err != nil {
		return err
	}
	return f(l)
}
