package xdpipe

import (
	"context"
	"fmt"
	"strings"
)

// A NoInstanceError says that there is no instance, or no single one, to speak to.
type NoInstanceError struct {
	Name string   // "" if any would have done
	Live []string // the names of those that are running
}

func (e *NoInstanceError) Error() string {
	switch live := strings.Join(e.Live, ", "); {
	case len(e.Live) == 0 && e.Name == "":
		return "no instance is running; start one with: xdpipe run"
	case len(e.Live) == 0:
		return fmt.Sprintf("no instance %q is running, nor any other", e.Name)
	case e.Name == "":
		return fmt.Sprintf("%d instances are running; name one of: %s", len(e.Live), live)
	default:
		return fmt.Sprintf("no instance %q is running; there is: %s", e.Name, live)
	}
}

// theInstance finds the live instance of a name or, without one, the only one.
func theInstance(ctx context.Context, runDir, name string) (client, error) {
	all, err := sockets(runDir)
	if err != nil {
		return client{}, err
	}
	var live []client
	missing := &NoInstanceError{Name: name}
	for _, c := range all {
		conn, err := c.dial(ctx)
		switch {
		case err == nil:
			conn.Close()
		case dead(err):
			continue
		case name == "" || name == c.name:
			return client{}, c.blame(err)
		}
		if name == c.name {
			return c, nil
		}
		live = append(live, c)
		missing.Live = append(missing.Live, c.name)
	}
	if name == "" && len(live) == 1 {
		return live[0], nil
	}
	return client{}, missing
}
