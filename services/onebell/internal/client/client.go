// Package client is the commands that talk to a running Onebell. They are thin: a question to a service, and its answer as
// a table or as JSON. They decide nothing.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/services/onebell/internal/exit"
	"github.com/onebell/onebell/services/onebell/internal/ready"
)

// Env is what a command works with.
type Env struct {
	Ctx     context.Context
	Environ map[string]string
	Out     io.Writer // the answer, nothing else
	Err     io.Writer // remarks
}

// Where says how a command finds the services and shows its answer: the flags that all client commands share.
type Where struct {
	ReadyFile string `help:"File that onebell up wrote its addresses to (ONEBELL_READY_FILE)." placeholder:"FILE"`
	TokenFile string `help:"File with the bearer token to show at the services' doors (ONEBELL_API_TOKEN_FILE)." placeholder:"FILE"`
	JSON      bool   `name:"json" help:"Print one JSON document."`
}

// Limits of one command: to connect, and to get the whole answer.
const (
	connectLimit = 5 * time.Second
	answerLimit  = 30 * time.Second
)

// address finds a service: in the ready file, else in its variable, else at its default.
func (w Where) address(e *Env, variable, byDefault string, pick func(ready.File) string) (string, error) {
	path := w.ReadyFile
	if path == "" {
		path = e.Environ[ready.Variable]
	}
	if path != "" {
		f, err := ready.Read(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", exit.Unreached(fmt.Errorf("%s is not there: onebell up has not started, or is not ready yet", path))
		case err != nil:
			return "", exit.BadUsage(err)
		case pick(f) == "":
			return "", exit.BadUsage(fmt.Errorf("%s does not say where the service is", path))
		}
		return pick(f), nil
	}
	if value := e.Environ[variable]; value != "" {
		return value, nil
	}
	return byDefault, nil
}

func (w Where) tokenService(e *Env) (*grpc.ClientConn, error) {
	return w.dial(e, "token service", "ONEBELL_TOKEN_ADDR", "127.0.0.1:7001", func(f ready.File) string { return f.TokenGRPC })
}

func (w Where) alertService(e *Env) (*grpc.ClientConn, error) {
	return w.dial(e, "alert service", "ONEBELL_ALERT_ADDR", "127.0.0.1:7002", func(f ready.File) string { return f.AlertGRPC })
}

// dial connects within connectLimit, or says where nobody answers.
func (w Where) dial(e *Env, name, variable, byDefault string, pick func(ready.File) string) (*grpc.ClientConn, error) {
	addr, err := w.address(e, variable, byDefault, pick)
	if err != nil {
		return nil, err
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, exit.BadUsage(fmt.Errorf("%s=%q: expected host:port, like %s", variable, addr, byDefault))
	}
	settings := rpc.ClientSettings{TokenFile: e.Environ["ONEBELL_API_TOKEN_FILE"]}
	if w.TokenFile != "" {
		settings.TokenFile = w.TokenFile
	}
	token, err := settings.Token()
	if err != nil {
		return nil, exit.BadUsage(err)
	}
	conn, err := rpc.Dial(throughLoopback(addr), token, answerLimit)
	if err != nil {
		return nil, exit.BadUsage(fmt.Errorf("%s at %q: %w", name, addr, err))
	}
	ctx, cancel := context.WithTimeout(e.Ctx, connectLimit)
	defer cancel()
	conn.Connect()
	for {
		state := conn.GetState()
		if state == connectivity.Ready {
			return conn, nil
		}
		if state == connectivity.TransientFailure || !conn.WaitForStateChange(ctx, state) {
			_ = conn.Close()
			return nil, exit.Unreached(fmt.Errorf("the %s does not answer at %s: is it running? Name it with --ready-file FILE or %s", name, addr, variable))
		}
	}
}

// throughLoopback is a listen address as a client on the same machine dials it.
func throughLoopback(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// refused turns a service's error into words and an exit status: fields that it does not take are the caller's to mend.
func refused(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return exit.Failed(err)
	}
	var lines []string
	for _, d := range st.Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				lines = append(lines, "  "+v.GetField()+": "+v.GetDescription())
			}
		}
	}
	said := errors.New(st.Message())
	if len(lines) > 0 {
		said = errors.New("the service does not take this:\n" + strings.Join(lines, "\n"))
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.Unauthenticated, codes.PermissionDenied, codes.OutOfRange:
		return exit.BadUsage(said)
	case codes.Unavailable, codes.DeadlineExceeded, codes.Unimplemented:
		return exit.Unreached(said)
	}
	return exit.Failed(said)
}

// printJSON writes one document.
func (e *Env) printJSON(v any) error {
	enc := json.NewEncoder(e.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// object is a message as its proto3 JSON with snake_case names; `zeros` shows fields that hold nothing too.
func object(m proto.Message, zeros bool) (json.RawMessage, error) {
	return protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: zeros}.Marshal(m)
}

// array is a list of messages; an empty one is [].
func array[M proto.Message](list []M, zeros bool) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, 0, len(list))
	for _, m := range list {
		one, err := object(m, zeros)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// table writes aligned columns.
func (e *Env) table(head []string, rows [][]string) error {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range append([][]string{head}, rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(e.Out, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

// limited is the command's context with the limit of an answer.
func (e *Env) limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(e.Ctx, answerLimit)
}
