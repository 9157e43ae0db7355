package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/onebell/onebell/pkg/config"
)

// taken is how long a port may still be held by a process that was killed just before.
const taken = 2 * time.Second

// listen binds an address. The error names the variable that can be set to another one.
func listen(ctx context.Context, variable string, addr config.Addr) (net.Listener, error) {
	deadline := time.Now().Add(taken)
	for {
		ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", string(addr))
		switch {
		case err == nil:
			return ln, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return nil, fmt.Errorf("%s=%q: %w", variable, addr, err)
		case time.Now().After(deadline):
			return nil, fmt.Errorf("%s is taken by another program: stop that one, or set %s to another address (port 0: any free one)", addr, variable)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// free checks that an address can be bound, for a server that binds it by itself.
func free(ctx context.Context, variable string, addr config.Addr) error {
	ln, err := listen(ctx, variable, addr)
	if err != nil {
		return err
	}
	return ln.Close()
}

// listener knows whether its service has begun to accept: from then on the service is there, and all its own conditions
// of readiness have been added.
type listener struct {
	net.Listener
	once    sync.Once
	serving chan struct{}
}

func newListener(ln net.Listener) *listener {
	return &listener{Listener: ln, serving: make(chan struct{})}
}

// Accept waits for the next connection.
func (l *listener) Accept() (net.Conn, error) {
	l.once.Do(func() { close(l.serving) })
	return l.Listener.Accept()
}

func (l *listener) begun() bool {
	select {
	case <-l.serving:
		return true
	default:
		return false
	}
}

// listeners are those of all services, by variable.
type listeners map[string]*listener

// bindAll binds the doors of all services, or none.
func bindAll(ctx context.Context, services []prepared) (listeners, error) {
	all := listeners{}
	var problems []error
	for _, s := range services {
		for _, d := range s.doors {
			ln, err := listen(ctx, d.variable, d.addr)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			all[d.variable] = newListener(ln)
		}
	}
	if len(problems) > 0 {
		all.close()
		return nil, errors.Join(problems...)
	}
	return all, nil
}

func (all listeners) close() {
	for _, ln := range all {
		_ = ln.Close()
	}
}

// started says which service does not accept yet.
func (all listeners) started(context.Context) error {
	for variable, ln := range all {
		if !ln.begun() {
			return fmt.Errorf("the listener of %s is not served yet", variable)
		}
	}
	return nil
}

// addr is a bound address as clients dial it.
func (all listeners) addr(variable string) string {
	if ln := all[variable]; ln != nil {
		return dialable(ln.Addr())
	}
	return ""
}
