// Package config reads settings from environment variables into structs. A struct says what it needs in tags:
//
//	NATSURL string `env:"ONEBELL_NATS_URL" envDefault:"nats://127.0.0.1:4222" help:"where NATS is" secret:"url"`
//
// All problems are told at once, each with the variable, the value (masked where secret) and what is expected.
// It reads no files.
package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Setting is one variable, for the table in the README and for help texts.
type Setting struct{ Name, Default, Help string }

// Environ is the environment: "NAME=value" strings as of os.Environ, as a map.
func Environ(environ []string) map[string]string { return env.ToMap(environ) }

// Load reads a C from the environment. The error joins every problem.
func Load[C any](environ map[string]string) (C, error) {
	var c C
	err := env.ParseWithOptions(&c, env.Options{Environment: environ})
	problems := explain(reflect.TypeFor[C](), environ, err)
	if v, ok := any(&c).(interface{ Validate() []error }); ok {
		known := errors.Join(problems...)
		for _, problem := range v.Validate() {
			// What could not be read looks as if it were not set: that is told once.
			if name := variable.FindString(problem.Error()); known == nil || name == "" || !slices.Contains(variable.FindAllString(known.Error(), -1), name) {
				problems = append(problems, problem)
			}
		}
	}
	return c, errors.Join(problems...)
}

// variable finds the names of settings in an error.
var variable = regexp.MustCompile(`ONEBELL_[A-Z0-9_]+`)

// Table lists the variables of a C in the order of its fields.
func Table[C any]() []Setting {
	var settings []Setting
	walk(reflect.TypeFor[C](), func(f reflect.StructField, name string) {
		settings = append(settings, Setting{Name: name, Default: f.Tag.Get("envDefault"), Help: f.Tag.Get("help")})
	})
	return settings
}

// Problem is a setting that cannot be used.
func Problem(name, value, expected string) error {
	return fmt.Errorf("%s=%q: expected %s", name, value, expected)
}

func walk(t reflect.Type, visit func(f reflect.StructField, name string)) {
	for f := range t.Fields() {
		if f.Type.Kind() == reflect.Struct && f.Tag.Get("env") == "" {
			walk(f.Type, visit)
			continue
		}
		if name, _, _ := strings.Cut(f.Tag.Get("env"), ","); name != "" && name != "-" {
			visit(f, name)
		}
	}
}

// explain turns the library's errors, which name Go fields, into ones that name variables.
func explain(t reflect.Type, environ map[string]string, err error) []error {
	var all env.AggregateError
	if err == nil {
		return nil
	}
	if !errors.As(err, &all) {
		return []error{err}
	}
	fields := map[string]reflect.StructField{}
	names := map[string]string{}
	walk(t, func(f reflect.StructField, name string) { fields[f.Name], names[f.Name] = f, name })
	var problems []error
	for _, e := range all.Errors {
		var parse env.ParseError
		if !errors.As(e, &parse) {
			problems = append(problems, e)
			continue
		}
		value := environ[names[parse.Name]]
		if fields[parse.Name].Tag.Get("secret") != "" {
			value = "***"
		}
		expected := fmt.Sprintf("a value of type %s (%v)", parse.Type, parse.Err)
		if wanted, ok := errors.AsType[*Expected](parse.Err); ok {
			expected = wanted.What
		}
		problems = append(problems, Problem(names[parse.Name], value, expected))
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return problems
}

// Expected is the error of a type that reads itself from text: what a good value looks like.
type Expected struct{ What string }

func (e *Expected) Error() string { return "expected " + e.What }

// Addr is a listen or dial address, host:port. Port 0 means any free port.
type Addr string

// UnmarshalText checks the form.
func (a *Addr) UnmarshalText(text []byte) error {
	if _, port, err := net.SplitHostPort(string(text)); err != nil || port == "" {
		return &Expected{"host:port, like 127.0.0.1:8080 or :8080 (port 0: any free port)"}
	}
	*a = Addr(text)
	return nil
}

// HTTPURL is an http or https address without query.
type HTTPURL string

// UnmarshalText checks the form and drops a slash at the end.
func (u *HTTPURL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if err != nil || parsed.Host == "" || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.RawQuery != "" {
		return &Expected{"an http or https address like https://graph.facebook.com"}
	}
	*u = HTTPURL(strings.TrimRight(string(text), "/"))
	return nil
}
