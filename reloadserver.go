package xdpipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Reloaded is what an instance runs after a reload.
type Reloaded struct {
	Name      string            `json:"name"`
	Pipelines []PipelineSummary `json:"pipelines"`
	Steer     map[string]string `json:"steer"` // by port
}

// ErrNoConfig is the error of a reload of an instance that has no configuration to
// read again.
var ErrNoConfig = errors.New("the instance was started from the command line and has no file to read again: stop it, or start it with: xdpipe run CONFIG.yaml")

// ReloadConfig reads the configuration again, as Options.Config says, and takes it
// over with Reload: what POST /reload on the instance's socket does.
func (i *Instance) ReloadConfig() (Reloaded, error) {
	if i.config == nil {
		return Reloaded{}, ErrNoConfig
	}
	cfg, err := i.config()
	if err != nil {
		return Reloaded{}, err
	}
	if err := i.Reload(cfg); err != nil {
		return Reloaded{}, err
	}
	i.planMu.Lock()
	defer i.planMu.Unlock()
	plan := i.plan.Summary()
	r := Reloaded{Name: plan.Name, Pipelines: plan.Pipelines, Steer: map[string]string{}}
	for _, p := range plan.Ports {
		r.Steer[p.Name] = p.Steer
	}
	return r, nil
}

// mistakesAnswer is the body of a refusal.
type mistakesAnswer struct {
	Errors []Mistake `json:"errors"`
}

func (i *Instance) serveReload(w http.ResponseWriter, _ *http.Request) {
	r, err := i.ReloadConfig()
	switch {
	case errors.Is(err, ErrNoConfig):
		http.Error(w, err.Error(), http.StatusConflict)
	case err != nil:
		writeJSON(w, http.StatusUnprocessableEntity, mistakesAnswer{Mistakes(err)})
		i.log.Error("not reloaded", "error", err)
	default:
		writeJSON(w, http.StatusOK, r)
		i.log.Info("reloaded", "pipelines", len(r.Pipelines))
	}
}

// reloadTimeout is far longer than a reload takes: stages may read large files.
const reloadTimeout = time.Minute

// Reload lets an instance read its configuration again, which is the only one that
// runs if instance is "". The error is a *ReloadError if the instance goes on as it
// was.
func Reload(ctx context.Context, runDir, instance string) (r Reloaded, err error) {
	c, err := theInstance(ctx, runDir, instance)
	if err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, reloadTimeout, fmt.Errorf("no answer within %v: is its process stopped?", reloadTimeout))
	defer cancel()
	resp, err := c.do(ctx, http.MethodPost, "/reload")
	if err != nil {
		return r, c.blame(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		err = json.NewDecoder(resp.Body).Decode(&r)
	case http.StatusUnprocessableEntity:
		var refusal mistakesAnswer
		if err = json.NewDecoder(resp.Body).Decode(&refusal); err == nil {
			return r, &ReloadError{c.name, refusal.Errors}
		}
	default:
		err = answered(resp)
	}
	if err != nil {
		return r, c.blame(err)
	}
	return r, nil
}
