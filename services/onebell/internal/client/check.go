package client

import (
	"fmt"
	"os"
	"strings"

	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/services/onebell/internal/exit"
)

// Rules works on rules.yaml.
type Rules struct {
	Check rulesCheck `cmd:"" help:"Read a rules.yaml as the services do, and print what is wrong with line and column."`
}

// Pages works on pages.yaml.
type Pages struct {
	Check pagesCheck `cmd:"" help:"Read a pages.yaml as the services do, with the variables of this environment, and print what is wrong."`
}

// checkedFile is the argument of the checks.
type checkedFile struct {
	File string `arg:"" help:"The file."`
	JSON bool   `name:"json" help:"Print one JSON document."`
}

type rulesCheck struct{ checkedFile }

// Run reads the file.
func (c rulesCheck) Run(e *Env) error {
	return c.check(e, func(text []byte) ([]string, error) {
		r, err := rules.Parse(text)
		if err != nil {
			return nil, err
		}
		return r.Warnings(), nil
	})
}

type pagesCheck struct{ checkedFile }

// Run reads the file.
func (c pagesCheck) Run(e *Env) error {
	lookup := func(name string) (string, bool) { v, ok := e.Environ[name]; return v, ok }
	return c.check(e, func(text []byte) ([]string, error) { _, err := pages.Parse(text, lookup); return nil, err })
}

// checkAnswer is the answer of a check.
type checkAnswer struct {
	OK       bool     `json:"ok"`
	Problems []string `json:"problems"`
	Warnings []string `json:"warnings"` // allowed, and still likely to go wrong
}

// check reads a file and prints its problems; the status is 1 when there are any.
func (c checkedFile) check(e *Env, parse func([]byte) (warnings []string, err error)) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return exit.BadUsage(err)
	}
	warnings, err := parse(text)
	answer := checkAnswer{OK: err == nil, Problems: []string{}, Warnings: append([]string{}, warnings...)}
	if err != nil {
		answer.Problems = strings.Split(err.Error(), "\n")
	}
	switch {
	case c.JSON:
		err = e.printJSON(answer)
	case answer.OK:
		for _, w := range answer.Warnings {
			_, _ = fmt.Fprintln(e.Out, "warning:", w)
		}
		_, err = fmt.Fprintln(e.Out, "ok")
	default:
		_, err = fmt.Fprintln(e.Out, strings.Join(answer.Problems, "\n"))
	}
	if err == nil && !answer.OK {
		return exit.No()
	}
	return err
}
