// Fleet runs commands on many machines, over NATS JetStream.
//
//	fleet                                        all in one: a server, a worker and the page
//	fleet server -dir DIR [-port N] [-name NAME -route-port N -routes URL,URL,URL]
//	fleet worker -dir DIR [-host NAME] [-label linux.gpu=1]...
//	fleet web    [-listen 127.0.0.1:8080]
//	fleet submit [-id ID] [-label LABEL] [-timeout 1m] [-wait] COMMAND [ARG...]
//	fleet ps | nodes
//	fleet logs [-f] ID
//	fleet cancel ID
//	fleet drain HOST
//
// All but server take -url, the servers, and -creds, a file of credentials. README.md says what it promises and what to
// change.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/seed841d8200/safeexec"
	"github.com/seed841d8200/safeexec/guard"
)

func main() {
	guard.Init()
	ctx, stop := safeexec.NotifyContext(context.Background())
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// A cli is one call of the program.
type cli struct {
	*flag.FlagSet
	url   string
	creds string
	settings
}

func (c *cli) connect(ctx context.Context) (*fleet, error) {
	var opts []nats.Option
	if c.creds != "" {
		opts = append(opts, nats.UserCredentials(c.creds))
	}
	return connect(ctx, c.url, c.settings, opts...)
}

// verbs are what the program does, by name.
var verbs = map[string]func(context.Context, *cli, []string) error{
	"up": up, "server": serveNATS, "worker": work, "web": web, "submit": submit, "ps": ps, "nodes": nodes,
	"logs": logs, "cancel": cancel, "drain": drain,
}

var errUsage = errors.New("wrong arguments, see go doc")

func run(ctx context.Context, args []string) int {
	name := "up"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, args = args[0], args[1:]
	}
	verb := verbs[name]
	if verb == nil {
		say("there is no %q; see go doc .", name)
		return 2
	}
	c := &cli{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	c.StringVar(&c.url, "url", nats.DefaultURL, "the `servers`, separated by commas")
	c.StringVar(&c.creds, "creds", "", "`file` of credentials")
	c.IntVar(&c.replicas, "replicas", 1, "`copies` of all that is kept, for a fleet that is made")
	c.DurationVar(&c.limit, "limit", 10*time.Minute, "the longest timeout of a job, for a fleet that is made")
	var exit exitCode
	err := verb(ctx, c, args)
	switch {
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, errUsage), errors.Is(err, flag.ErrHelp):
		say("%v", err)
		return 2
	case err != nil:
		say("%v", err)
		return 1
	}
	return 0
}

// An exitCode is the status of a job that was waited for.
type exitCode int

func (e exitCode) Error() string { return "exit status " + strconv.Itoa(int(e)) }

// slotsFlag reads LABEL or LABEL=N, several times.
type slotsFlag map[string]int

// String returns what Set reads, by label.
func (s slotsFlag) String() string {
	var list []string
	for _, label := range slices.Sorted(maps.Keys(s)) {
		list = append(list, label+"="+strconv.Itoa(s[label]))
	}
	return strings.Join(list, ",")
}

func (s slotsFlag) Set(text string) error {
	label, count, ok := strings.Cut(text, "=")
	n := 1
	if ok {
		var err error
		if n, err = strconv.Atoi(count); err != nil {
			return err
		}
	}
	s[label] = n
	return nil
}

func (s slotsFlag) orDefault() slotsFlag {
	if len(s) == 0 {
		s["linux"] = 2
	}
	return s
}

func privateDir() string { return filepath.Join(os.TempDir(), fmt.Sprintf("fleet-%d", os.Getuid())) }

func hostname() string {
	name, _ := os.Hostname()
	return strings.ReplaceAll(name, ".", "-")
}

func serveNATS(ctx context.Context, c *cli, args []string) error {
	var s serverConfig
	c.StringVar(&s.dir, "dir", filepath.Join(privateDir(), "server"), "`directory` of what is kept")
	c.IntVar(&s.port, "port", nats.DefaultPort, "`port` for clients")
	c.StringVar(&s.name, "name", "fleet", "`name` in the cluster")
	c.StringVar(&s.routes, "routes", "", "`URLs` of the cluster's servers")
	c.IntVar(&s.route, "route-port", 6222, "`port` for the cluster's servers")
	if err := c.Parse(args); err != nil {
		return errUsage
	}
	server, err := startServer(s)
	if err != nil {
		return err
	}
	say("server at %s", server.ClientURL())
	<-ctx.Done()
	stopServer(server)
	return nil
}

func work(ctx context.Context, c *cli, args []string) error {
	slots := slotsFlag{}
	dir := c.String("dir", filepath.Join(privateDir(), "worker"), "`directory` of the journal")
	host := c.String("host", hostname(), "`name` of this machine")
	c.Var(slots, "label", "`LABEL=N`: take jobs of the label, N at a time")
	if err := c.Parse(args); err != nil {
		return errUsage
	}
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	w, err := newWorker(f, *host, *dir, slots.orDefault())
	if err != nil {
		return err
	}
	say("worker %s, lease %s", w.host, w.lease)
	err = w.serve(ctx)
	say("worker %s: %d redeliveries", w.host, w.again.Load())
	return errors.Join(err, f.nc.FlushTimeout(tryFor))
}

// up is the whole fleet on this machine.
func up(ctx context.Context, c *cli, args []string) error {
	listen := c.String("listen", "127.0.0.1:8080", "`address` of the page")
	port := c.Int("port", nats.DefaultPort, "`port` of the server")
	dir := c.String("dir", privateDir(), "`directory` of all that is kept")
	if err := c.Parse(args); err != nil {
		return errUsage
	}
	s, err := startServer(serverConfig{name: "fleet", dir: filepath.Join(*dir, "server"), port: *port})
	if err != nil {
		return err
	}
	defer stopServer(s)
	c.url = s.ClientURL()
	f, err := c.connect(ctx)
	if err != nil {
		return err
	}
	defer f.close()
	w, err := newWorker(f, hostname(), filepath.Join(*dir, "worker"), slotsFlag{}.orDefault())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	page := make(chan error, 1)
	go func() { page <- servePage(ctx, f, *listen); stop() }()
	return errors.Join(w.serve(ctx), <-page)
}
