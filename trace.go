package xdpipe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/xdpipe/xdpipe/filter"
	"github.com/xdpipe/xdpipe/pipeline"
)

// DefaultTraced is how many packets a trace follows unless it says.
const DefaultTraced = 10

// A TraceQuery says which packets Trace follows, and for how long.
type TraceQuery struct {
	// Packets is how many, up to pipeline.MaxTraced; 0 is DefaultTraced.
	Packets int
	// Filter is a pcap-filter expression that the packets match as they arrive; ""
	// takes all.
	Filter string
	// Timeout ends the trace, if it is not 0; packets on their way are then given
	// with what there is of their path.
	Timeout time.Duration
	// Started is called, if it is not nil, once the instance of that name follows
	// packets.
	Started func(instance string)
}

// Trace follows packets through the stages of an instance, which is the only one
// that runs if instance is "", and calls emit for each whose path has come to an
// end. It returns when all were followed, the timeout has passed, the instance
// stops, emit returns an error, or ctx is done, which is no error.
func Trace(ctx context.Context, runDir, instance string, q TraceQuery, emit func(pipeline.TracedPacket) error) error {
	c, err := theInstance(ctx, runDir, instance)
	if err != nil {
		return err
	}
	params := url.Values{}
	if q.Packets != 0 {
		params.Set("n", strconv.Itoa(q.Packets))
	}
	if q.Filter != "" {
		params.Set("expr", q.Filter)
	}
	if q.Timeout != 0 {
		params.Set("timeout", q.Timeout.String())
	}
	resp, err := c.begin(ctx, http.MethodGet, "/trace?"+params.Encode())
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return c.blame(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return c.blame(answered(resp))
	}
	if q.Started != nil {
		q.Started(c.name)
	}
	for lines := json.NewDecoder(resp.Body); ; {
		var p pipeline.TracedPacket
		err := lines.Decode(&p)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return c.blame(fmt.Errorf("the trace broke off: %w", err))
		}
		if err := emit(p); err != nil {
			return err
		}
	}
}

// Trace is pipeline.Engine.Trace of the instance's engine. The requests of its
// socket count as the one trace that may run.
func (i *Instance) Trace(ctx context.Context, opts pipeline.TraceOptions, emit func(pipeline.TracedPacket)) error {
	if !i.tracing.TryLock() {
		return pipeline.ErrTracing
	}
	defer i.tracing.Unlock()
	return i.engine.Trace(ctx, opts, emit)
}

// serveTrace streams a line of JSON for each packet.
func (i *Instance) serveTrace(w http.ResponseWriter, r *http.Request) {
	opts, timeout, err := traceOptions(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	// Here and not by Instance.Trace, so that a refusal still has a status.
	if !i.tracing.TryLock() {
		http.Error(w, pipeline.ErrTracing.Error(), http.StatusConflict)
		return
	}
	defer i.tracing.Unlock()
	ctx, cancel := context.WithCancel(r.Context()) // done when the client goes away or the instance closes
	defer cancel()
	if timeout > 0 {
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	_ = flush.Flush() // what fails here fails below
	lines := json.NewEncoder(w)
	err = i.engine.Trace(ctx, opts, func(p pipeline.TracedPacket) {
		if lines.Encode(p) != nil || flush.Flush() != nil {
			cancel() // nobody listens
		}
	})
	if err != nil {
		i.log.Warn("trace", "error", err)
	}
}

// traceOptions reads the parameters of a request.
func traceOptions(q url.Values) (opts pipeline.TraceOptions, timeout time.Duration, err error) {
	opts.Packets = DefaultTraced
	if n := q.Get("n"); n != "" {
		opts.Packets, err = strconv.Atoi(n)
		if err != nil || opts.Packets < 1 || opts.Packets > pipeline.MaxTraced {
			return opts, 0, fmt.Errorf("n=%s: want the number of packets, 1 to %d", n, pipeline.MaxTraced)
		}
	}
	if d := q.Get("timeout"); d != "" {
		timeout, err = time.ParseDuration(d)
		if err != nil || timeout <= 0 {
			return opts, 0, fmt.Errorf("timeout=%s: want a duration such as 10s", d)
		}
	}
	if expr := q.Get("expr"); expr != "" {
		f, err := filter.Compile(expr)
		if err != nil {
			return opts, 0, err
		}
		opts.Match = f.Match
	}
	return opts, timeout, nil
}
