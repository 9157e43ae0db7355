// Package exit gives errors the exit status with which the program ends. It ends nothing itself.
package exit

import (
	"errors"

	"github.com/onebell/onebell/pkg/lifecycle"
)

// Error is an error with an exit status. A nil Err says nothing more to the user: everything was printed.
type Error struct {
	Status int
	Err    error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return ""
	}
	return e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// No is the status of a command that did its work and whose answer is "no" or "problems found".
func No() error { return &Error{Status: lifecycle.ExitFailed} }

// Failed is the status of what went wrong and is nobody's input.
func Failed(err error) error { return &Error{lifecycle.ExitFailed, err} }

// BadUsage is the status of arguments, settings and input that cannot be used.
func BadUsage(err error) error { return &Error{lifecycle.ExitBadUsage, err} }

// Unreached is the status when a service does not answer.
func Unreached(err error) error { return &Error{lifecycle.ExitUnreached, err} }

// Status is the exit status for an error; nil is 0, and an error without a status is 1.
func Status(err error) int {
	var e *Error
	switch {
	case err == nil:
		return lifecycle.ExitDone
	case errors.As(err, &e):
		return e.Status
	}
	return lifecycle.ExitFailed
}
