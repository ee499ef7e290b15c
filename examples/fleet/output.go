package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// maxLog is how much of a job's output is kept. The rest is counted.
const maxLog = 64 << 20

// An output takes what a command writes: into a file, and at once to listeners. Live output may get lost with a
// connection; each message says where in the output it belongs, so that a gap shows.
type output struct {
	file    *os.File
	nc      *nats.Conn
	subject string
	who     string
	total   int64
	dropped int64
}

func decode(text []byte, v any) error { return json.Unmarshal(text, v) }

func (o *output) Write(p []byte) (int, error) {
	m := nats.NewMsg(o.subject)
	m.Header.Set("At", strconv.FormatInt(o.total, 10))
	m.Header.Set("Attempt", o.who)
	m.Data = p
	_ = o.nc.PublishMsg(m) // a gap, if it cannot be
	o.total += int64(len(p))
	keep := p[:max(0, min(int64(len(p)), maxLog-(o.total-int64(len(p)))))]
	o.dropped += int64(len(p) - len(keep))
	if _, err := o.file.Write(keep); err != nil {
		return 0, err
	}
	return len(p), nil
}

// follow writes the output of a job to w: live while it runs, and the log from the place on that was reached when it
// has ended. Gaps in live output are told in brackets.
func (f *fleet) follow(ctx context.Context, id string, w io.Writer) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	live := make(chan *nats.Msg, 1024)
	sub, err := f.nc.ChanSubscribe(outSubject+id, live)
	if err != nil {
		return Result{}, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	type end struct {
		Result
		error
	}
	ended := make(chan end, 1)
	go func() { r, err := f.wait(ctx, id); ended <- end{r, err} }() // by the context, if by nothing else
	var s seam
	for {
		select {
		case m := <-live:
			s.join(w, m)
		case e := <-ended:
			if e.error != nil {
				return e.Result, e.error
			}
			for len(live) > 0 {
				s.join(w, <-live)
			}
			return e.Result, f.rest(ctx, e.Result, &s, w)
		}
	}
}

// A seam joins live output.
type seam struct {
	who  string
	at   int64
	gaps bool
}

func (s *seam) join(w io.Writer, m *nats.Msg) {
	at, err := strconv.ParseInt(m.Header.Get("At"), 10, 64)
	if err != nil {
		return
	}
	if who := m.Header.Get("Attempt"); who != s.who {
		if s.who != "" {
			_, _ = fmt.Fprintf(w, "\n[begun again: %s]\n", who)
		}
		s.who, s.at, s.gaps = who, 0, false
	}
	if at > s.at {
		_, _ = fmt.Fprintf(w, "\n[%d bytes not seen live]\n", at-s.at)
		s.gaps = true
	}
	_, _ = w.Write(m.Data)
	s.at = at + int64(len(m.Data))
}

// rest writes what the log has beyond what was seen.
func (f *fleet) rest(ctx context.Context, r Result, s *seam, w io.Writer) error {
	if s.who != r.who() {
		s.at = 0
	}
	if r.Log == "" || s.at >= r.Bytes {
		return nil
	}
	if s.who != "" && s.at == 0 {
		_, _ = fmt.Fprintf(w, "\n[the accepted run: %s]\n", r.who())
	}
	log, err := f.log(ctx, r)
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := io.CopyN(io.Discard, log, s.at); err != nil {
		return err
	}
	_, err = io.Copy(w, log)
	return err
}

func (r Result) who() string { return fmt.Sprintf("%s.%d", r.Host, r.Attempt) }

// log opens the whole output of a job.
func (f *fleet) log(ctx context.Context, r Result) (io.ReadCloser, error) {
	if r.Log == "" {
		return io.NopCloser(strings.NewReader("")), nil
	}
	return f.logs.Get(ctx, r.Log)
}

// upload puts the log where all find it. It is whole before the result names it.
func (f *fleet) upload(ctx context.Context, name, path string) error {
	return persist(ctx, func(ctx context.Context) error {
		file, err := os.Open(path)
		if err != nil {
			return refusal{err}
		}
		defer file.Close()
		_, err = f.logs.Put(ctx, jetstream.ObjectMeta{Name: name}, file)
		return err
	})
}

func (f *fleet) forgetLog(ctx context.Context, name string) {
	if err := f.logs.Delete(ctx, name); err != nil && !errors.Is(err, jetstream.ErrObjectNotFound) {
		say("log %s is left: %v", name, err)
	}
}
