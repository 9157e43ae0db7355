// Package door decides who may come in. Loopback needs no identity; beyond it every gRPC, events and console listener asks
// for a bearer token from a file (a line each: `name role token`), compared in constant time and reloaded when it changes.
// What a role may do is said by the service that owns the door.
package door

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/reload"
)

// Role is what an identity may be used for. An admin may everything.
type Role string

// The roles.
const (
	Publisher Role = "publisher" // publishes inventory events
	Caller    Role = "caller"    // an internal service
	Operator  Role = "operator"  // a person who runs Onebell
	Admin     Role = "admin"
)

var roles = []Role{Publisher, Caller, Operator, Admin}

// Settings of the doors of a program.
type Settings struct {
	TokensFile string `env:"ONEBELL_API_TOKENS_FILE" help:"file of bearer tokens for listeners beyond loopback, a line each: name role token"`
	Insecure   string `env:"ONEBELL_INSECURE_LISTEN" help:"yes: listen beyond loopback without asking for identity"`
}

// Door guards the listeners of a program. A nil *Door lets everybody in.
type Door struct {
	file *reload.File[[]identity]
}

type identity struct {
	name   string
	role   Role
	digest [sha256.Size]byte
}

// Open makes the guard for a listener on addr: nil on loopback. Beyond loopback it refuses to be without tokens unless the
// settings say so, which is logged each time.
func Open(addr net.Addr, s Settings, log *slog.Logger, ready *admin.Readiness) (*Door, error) {
	if s.Insecure != "" && s.Insecure != "yes" {
		return nil, fault.New(fault.Invalid, "bad_setting", fmt.Errorf("ONEBELL_INSECURE_LISTEN=%q: expected yes, or nothing", s.Insecure))
	}
	if loopback(addr) {
		return nil, nil
	}
	if s.TokensFile == "" {
		if s.Insecure == "yes" {
			log.Warn("listening beyond loopback without asking for identity (ONEBELL_INSECURE_LISTEN=yes)", "addr", addr.String())
			return nil, nil
		}
		return nil, fault.New(fault.Invalid, "bad_setting",
			fmt.Errorf("%s is beyond loopback: set ONEBELL_API_TOKENS_FILE, or ONEBELL_INSECURE_LISTEN=yes to let everybody in", addr))
	}
	file, err := reload.Open(s.TokensFile, parse, log, ready)
	if err != nil {
		return nil, fmt.Errorf("ONEBELL_API_TOKENS_FILE: %w", err)
	}
	return &Door{file: file}, nil
}

// Watch keeps the tokens up to date until ctx ends.
func (d *Door) Watch(ctx context.Context) error {
	if d == nil {
		<-ctx.Done()
		return nil
	}
	return d.file.Watch(ctx)
}

// Admit finds who an Authorization header names and whether its role is among those allowed. The errors are faults of
// kind Denied: reason "unauthenticated" without a known token, "role" with one whose role does not reach.
func (d *Door) Admit(authorization string, allowed []Role) error {
	if d == nil {
		return nil
	}
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	if !ok || token == "" {
		return fault.New(fault.Denied, Unauthenticated, errors.New("expected a header Authorization: Bearer <token>"))
	}
	digest := sha256.Sum256([]byte(token))
	var found *identity
	for _, id := range d.file.Get() {
		// Every line is compared, whole, so that the time says nothing about which one is near.
		if subtle.ConstantTimeCompare(digest[:], id.digest[:]) == 1 {
			found = &id
		}
	}
	switch {
	case found == nil:
		return fault.New(fault.Denied, Unauthenticated, errors.New("the bearer token is not known"))
	case found.role != Admin && !slices.Contains(allowed, found.role):
		return fault.New(fault.Denied, "role", fmt.Errorf("%s has the role %s, which does not reach", found.name, found.role))
	}
	return nil
}

// Unauthenticated is the reason of a fault when nobody known is at the door.
const Unauthenticated = "unauthenticated"

// HTTP guards a handler: 401 without a known token, 403 when its role does not reach.
func (d *Door) HTTP(next http.Handler, allowed ...Role) http.Handler {
	if d == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := d.Admit(r.Header.Get("Authorization"), allowed)
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case fault.Of(err).Reason == Unauthenticated:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, err.Error(), http.StatusUnauthorized)
		default:
			http.Error(w, err.Error(), http.StatusForbidden)
		}
	})
}

func loopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	}
	return addr.Network() == "bufconn"
}

// parse reads the tokens file; # begins a comment. The error never shows a token.
func parse(content []byte) ([]identity, error) {
	var ids []identity
	var problems []error
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		switch {
		case len(fields) == 0:
		case len(fields) != 3:
			problems = append(problems, fmt.Errorf("line %d: %d words, expected: name role token", n, len(fields)))
		case !slices.Contains(roles, Role(fields[1])):
			problems = append(problems, fmt.Errorf("line %d: role %q, expected one of %v", n, fields[1], roles))
		case len(fields[2]) < 16:
			problems = append(problems, fmt.Errorf("line %d: the token of %s is shorter than 16 characters", n, fields[0]))
		default:
			ids = append(ids, identity{fields[0], Role(fields[1]), sha256.Sum256([]byte(fields[2]))})
		}
	}
	if err := lines.Err(); err != nil {
		problems = append(problems, err)
	}
	if len(ids) == 0 && len(problems) == 0 {
		problems = append(problems, errors.New("no token in it"))
	}
	return ids, errors.Join(problems...)
}
