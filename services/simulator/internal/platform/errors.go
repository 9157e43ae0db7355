package platform

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// Error is a refusal in the platform's own form. The HTTP status is not documented by code: it is what was seen, else 400.
type Error struct {
	Status    int             `json:"status"`
	Message   string          `json:"message"`
	Type      string          `json:"type"`
	Code      int             `json:"code"`
	Subcode   int             `json:"error_subcode"`
	Transient *bool           `json:"is_transient"`
	UserTitle string          `json:"error_user_title"`
	UserMsg   string          `json:"error_user_msg"`
	Data      json.RawMessage `json:"error_data"`
}

func (e *Error) Error() string { return e.Message }

// Body is the answer's body. trace is the id by which the platform's people would find the call.
func (e *Error) Body(trace string) []byte {
	type inner struct {
		Message   string          `json:"message"`
		Type      string          `json:"type"`
		Code      int             `json:"code"`
		Subcode   int             `json:"error_subcode,omitempty"`
		Transient *bool           `json:"is_transient,omitempty"`
		UserTitle string          `json:"error_user_title,omitempty"`
		UserMsg   string          `json:"error_user_msg,omitempty"`
		Data      json.RawMessage `json:"error_data,omitempty"`
		Trace     string          `json:"fbtrace_id"`
	}
	body, err := json.Marshal(map[string]inner{"error": {e.Message, e.Type, e.Code, e.Subcode, e.Transient, e.UserTitle, e.UserMsg, e.Data, trace}})
	if err != nil { // only a Data that is no JSON: ours is
		return []byte(`{"error":{"message":"An unknown error occurred.","type":"OAuthException","code":1,"error_subcode":99}}`)
	}
	return body
}

//go:embed errors.json
var documentedErrors []byte

// The documented errors, by code and subcode.
var documented = func() map[ErrorCode]Error {
	var list []Error
	if err := json.Unmarshal(documentedErrors, &list); err != nil {
		panic("errors.json: " + err.Error()) // it is compiled in: a test reads it
	}
	table := make(map[ErrorCode]Error, len(list))
	for _, e := range list {
		table[ErrorCode{e.Code, e.Subcode}] = e
	}
	return table
}()

// ErrorCode names an error: written code or code/subcode.
type ErrorCode struct{ Code, Subcode int }

// UnmarshalText reads 100 or 10/2018278.
func (c *ErrorCode) UnmarshalText(text []byte) error {
	code, sub, both := strings.Cut(string(text), "/")
	var err error
	if c.Code, err = strconv.Atoi(code); err == nil && both {
		c.Subcode, err = strconv.Atoi(sub)
	}
	if err != nil || c.Code == 0 {
		return fmt.Errorf("%q: expected a code like 100, or code/subcode like 10/2018278", text)
	}
	return nil
}

// MarshalText writes 100 or 10/2018278.
func (c ErrorCode) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (c ErrorCode) String() string {
	if c.Subcode == 0 {
		return strconv.Itoa(c.Code)
	}
	return fmt.Sprintf("%d/%d", c.Code, c.Subcode)
}

// Documented is the platform's error of a code, with its documented text; one that no page names gets a plain one.
func Documented(c ErrorCode) *Error {
	if e, ok := documented[c]; ok {
		return &e
	}
	e, ok := documented[ErrorCode{Code: c.Code}]
	if !ok {
		e = Error{Status: http.StatusBadRequest, Type: "OAuthException", Message: fmt.Sprintf("(#%d) An error occurred.", c.Code)}
	}
	e.Code, e.Subcode = c.Code, c.Subcode
	return &e
}

// refuse is a documented error with a text that says more.
func refuse(c ErrorCode, format string, args ...any) *Error {
	e := Documented(c)
	e.Message = fmt.Sprintf("(#%d) ", c.Code) + fmt.Sprintf(format, args...)
	return e
}

// The refusals of the doors.
var (
	WrongToken  = ErrorCode{Code: 190}
	UnknownPage = ErrorCode{100, 33}
	Invalid     = ErrorCode{Code: 100}
	noPerson    = ErrorCode{100, 2018001}
	outside     = ErrorCode{10, 2018278}
	blocked     = ErrorCode{Code: 551}
	empty       = ErrorCode{100, 2018034}
	bothAtOnce  = ErrorCode{100, 2018014}
)

// BadProof is the refusal of an appsecret_proof that does not belong to the token.
func BadProof() *Error {
	e := Documented(Invalid)
	e.Type, e.Message = "GraphMethodException", "Invalid appsecret_proof provided in the API argument"
	return e
}

// UnknownPath is the refusal of an address that this stand-in does not serve.
func UnknownPath() *Error {
	return &Error{Status: http.StatusBadRequest, Type: "OAuthException", Code: 2500, Message: "Unknown path components"}
}

// BadRequest is the refusal of a call that cannot be read.
func BadRequest(format string, args ...any) *Error { return refuse(Invalid, format, args...) }
