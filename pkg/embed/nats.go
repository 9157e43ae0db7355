// Package embed runs the servers that Onebell needs, NATS and Redis, for one machine and for tests.
package embed

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSOptions say how the embedded NATS server runs.
type NATSOptions struct {
	Addr string // host:port to listen on; port 0: any free one
	Dir  string // where streams are stored
	// SyncAlways makes every acknowledgement follow an fsync. Without it a power cut loses up to two minutes of what
	// was acknowledged (a killed process loses nothing).
	SyncAlways bool
	Log        *slog.Logger
}

// MaxPayload is the largest message: a webhook body of 4 MiB and its headers, with room (contract, section C).
const MaxPayload = 6 << 20

// NATS is an embedded server.
type NATS struct {
	srv *server.Server
}

// StartNATS starts a server with JetStream and waits until it takes connections.
func StartNATS(o NATSOptions) (*NATS, error) {
	host, portText, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: port %q", portText)
	}
	if port == 0 {
		port = server.RANDOM_PORT
	}
	srv, err := server.NewServer(&server.Options{
		ServerName: "onebell", Host: host, Port: port, NoSigs: true,
		JetStream: true, StoreDir: o.Dir, SyncAlways: o.SyncAlways,
		MaxPayload: MaxPayload, PingInterval: 5 * time.Second, MaxPingsOut: 2, WriteDeadline: 5 * time.Second,
	})
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	srv.SetLogger(natsLog{o.Log.With("service", "nats")}, false, false)
	srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		srv.Shutdown()
		return nil, errors.New("embedded NATS: not ready after 20 s (see its log lines)")
	}
	return &NATS{srv}, nil
}

// URL is where clients connect.
func (n *NATS) URL() string { return n.srv.ClientURL() }

// Stop ends the server and waits until its files are closed.
func (n *NATS) Stop() {
	n.srv.Shutdown()
	n.srv.WaitForShutdown()
}

// natsLog gives the server's log lines to slog: notices at debug, for they tell nothing about Onebell.
type natsLog struct{ log *slog.Logger }

func (l natsLog) Noticef(format string, v ...any) { l.log.Debug(fmt.Sprintf(format, v...)) }
func (l natsLog) Warnf(format string, v ...any)   { l.log.Warn(fmt.Sprintf(format, v...)) }
func (l natsLog) Fatalf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l natsLog) Errorf(format string, v ...any)  { l.log.Error(fmt.Sprintf(format, v...)) }
func (l natsLog) Debugf(string, ...any)           {}
func (l natsLog) Tracef(string, ...any)           {}
