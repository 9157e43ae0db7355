package up

import (
	"context"
	"errors"
	"net"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/alert"
	"github.com/onebell/onebell/services/console"
	"github.com/onebell/onebell/services/ingestor"
	"github.com/onebell/onebell/services/sender"
	"github.com/onebell/onebell/services/simulator"
	"github.com/onebell/onebell/services/token"
)

// service is one of the programs that `onebell up` runs in its process.
type service struct {
	name  string
	table func() []config.Setting
	load  func(environ map[string]string) (prepared, error)
}

// prepared is a service whose settings are read.
type prepared struct {
	name  string
	doors []door
	run   func(context.Context, *lifecycle.Process) error
}

// door is a listener of a service: where its settings put it, and where the bound one is put.
type door struct {
	variable string
	addr     config.Addr
	listener *net.Listener
}

// services in the order in which they start; they stop in reverse.
var services = []service{
	of("token", token.Run, func(c *token.Config) []door {
		return []door{{"ONEBELL_TOKEN_ADDR", c.Addr, &c.Listener}}
	}),
	of("alert", alert.Run, func(c *alert.Config) []door {
		return []door{{"ONEBELL_ALERT_ADDR", c.Addr, &c.Listener}, {"ONEBELL_ALERT_HTTP_ADDR", c.HTTPAddr, &c.HTTPListener}}
	}),
	// Before the sender, so that a send under way at the stop still has somebody to answer it.
	of("simulator", simulator.Run, func(c *simulator.Config) []door {
		return []door{{"ONEBELL_SIMULATOR_ADDR", c.Addr, &c.Listener}}
	}),
	of("sender", sender.Run, func(*sender.Config) []door { return nil }),
	of("ingestor", ingestor.Run, func(c *ingestor.Config) []door {
		return []door{{"ONEBELL_INGESTOR_ADDR", c.Addr, &c.Listener}}
	}),
	of("console", console.Run, func(c *console.Config) []door {
		return []door{{"ONEBELL_CONSOLE_ADDR", c.Addr, &c.Listener}}
	}),
}

// of makes a service from its package.
func of[C any](name string, run func(context.Context, C, *lifecycle.Process) error, doors func(*C) []door) service {
	return service{name: name, table: config.Table[C], load: func(environ map[string]string) (prepared, error) {
		c, err := config.Load[C](environ)
		return prepared{name: name, doors: doors(&c), run: func(ctx context.Context, p *lifecycle.Process) error {
			return run(ctx, c, p.For(name))
		}}, err
	}}
}

// load reads the settings of all services and tells all their problems.
func load(environ map[string]string) ([]prepared, error) {
	var all []prepared
	var problems []error
	for _, s := range services {
		p, err := s.load(environ)
		all, problems = append(all, p), append(problems, err)
	}
	return all, errors.Join(problems...)
}
