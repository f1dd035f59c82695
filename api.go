package xdpipe

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// An endpoint is one thing that a socket answers to.
type endpoint struct {
	method, path string
	doc          string
	handler      http.Handler
}

// endpoints are those of an instance's own socket.
func (i *Instance) endpoints() []endpoint {
	return []endpoint{
		{"GET", "/status", "counters, frames by place, interfaces, drops with cause and remedy (JSON)", http.HandlerFunc(i.serveStatus)},
		{"GET", "/metrics", "the same for Prometheus", i.MetricsHandler()},
		{"GET", "/trace?n=&expr=&timeout=", "the paths of the next packets that match, as they end (a JSON document a line)", http.HandlerFunc(i.serveTrace)},
		{"POST", "/reload", "reads the configuration file again; 422 has what is wrong with it, and nothing was changed (JSON)", http.HandlerFunc(i.serveReload)},
	}
}

// index is a handler of the endpoints, and of "/", which lists them.
func index(name string, all []endpoint) http.Handler {
	mux := http.NewServeMux()
	var list strings.Builder
	fmt.Fprintf(&list, "xdpipe instance %s\n\n", name)
	for _, e := range all {
		fmt.Fprintf(&list, "%-4s %-28s %s\n", e.method, e.path, e.doc)
		path, _, _ := strings.Cut(e.path, "?")
		mux.Handle(e.method+" "+path, e.handler)
	}
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte(list.String())) // the client went away
	})
	return mux
}

func (i *Instance) serveStatus(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, i.Status())
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client went away
}
