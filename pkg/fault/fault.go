// Package fault is the one vocabulary of failure: what kind of thing went wrong, so that every edge can decide alike.
// Two tables give the consequences: Code (gRPC) here, and what happens to a message in package stream.
package fault

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"
)

// Kind is what went wrong, seen from whoever has to act on it.
type Kind int

// The kinds. An error without a kind is Internal.
const (
	Internal    Kind = iota // our mistake or something unforeseen: try again, alarm
	Invalid                 // the input is wrong and will be wrong again
	NotFound                // there is no such thing
	Unavailable             // something we need is away: try again
	Denied                  // whoever asks may not
	Conflict                // somebody else was faster: look again
)

// Kinds lists every kind, for tests that walk the tables.
var Kinds = []Kind{Internal, Invalid, NotFound, Unavailable, Denied, Conflict}

// Code is the gRPC code of a kind.
func (k Kind) Code() codes.Code {
	switch k {
	case Invalid:
		return codes.InvalidArgument
	case NotFound:
		return codes.NotFound
	case Unavailable:
		return codes.Unavailable
	case Denied:
		return codes.PermissionDenied
	case Conflict:
		return codes.Aborted
	case Internal:
	}
	return codes.Internal
}

// Error is an error with a kind.
type Error struct {
	Kind   Kind
	Reason string        // short code, like "bad_json": for headers and metrics
	After  time.Duration // Unavailable, Conflict: when to try again; 0 leaves it to the reader
	Err    error         // what happened
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind.
func New(kind Kind, reason string, err error) error {
	return &Error{Kind: kind, Reason: reason, Err: err}
}

// Later makes an Unavailable error with the time after which to try again.
func Later(after time.Duration, reason string, err error) error {
	return &Error{Kind: Unavailable, Reason: reason, After: after, Err: err}
}

// Of finds the kind, reason and delay of an error; Internal when it has none.
func Of(err error) Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return *e
	}
	return Error{Kind: Internal, Reason: "internal", Err: err}
}
