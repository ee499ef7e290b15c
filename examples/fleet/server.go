package main

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// A serverConfig is one server, alone or of a cluster.
type serverConfig struct {
	name   string
	dir    string
	port   int
	routes string // of the cluster, separated by commas; none for one that is alone
	route  int    // this one's port for the others
}

// startServer starts a NATS server in this process.
//
// Each write is synced before it is answered. Otherwise a server syncs every two minutes, and a power failure of the
// machines takes answers back that have been given: an accepted result, or a job that was told to be queued.
func startServer(c serverConfig) (*server.Server, error) {
	o := &server.Options{
		ServerName: c.name, Host: "127.0.0.1", Port: c.port, NoSigs: true,
		JetStream: true, StoreDir: c.dir, SyncAlways: true,
	}
	if c.routes != "" {
		o.Cluster = server.ClusterOpts{Name: "fleet", Host: "127.0.0.1", Port: c.route}
		o.Routes = server.RoutesFromStr(c.routes)
		for _, r := range o.Routes {
			if _, err := url.Parse(r.String()); err != nil {
				return nil, err
			}
		}
	}
	s, err := server.NewServer(o)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", c.name, err)
	}
	go s.Start() // ended by Shutdown
	if !s.ReadyForConnections(time.Minute) {
		stopServer(s)
		return nil, errors.New("server " + c.name + " is not ready after a minute")
	}
	return s, nil
}

func stopServer(s *server.Server) {
	s.Shutdown()
	s.WaitForShutdown()
}
