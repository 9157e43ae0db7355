// Package event reads inventory events and says what is wrong with one, and where: the same answer at all three doors.
// It stores nothing.
package event

import (
	"encoding/json"
	"fmt"
	"mime"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
)

// ContentType is the header, in HTTP and in NATS, that says how an event is written.
const ContentType = "Content-Type"

// Problem is why an event cannot be used, and where in it.
type Problem struct {
	Path   string // field by field, like stock.available; empty: the event itself
	Reason string // what is expected
}

// At is the place as a JSON path below root, like $[1].stock.available.
func (p *Problem) At(root string) string {
	if p.Path == "" {
		return root
	}
	return root + "." + p.Path
}

// Error makes a problem of a single event an error.
func (p *Problem) Error() string { return p.At("$") + ": " + p.Reason }

// IsProtobuf tells whether a Content-Type means binary protobuf; everything else is read as JSON.
func IsProtobuf(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	return err == nil && (media == "application/protobuf" || media == "application/x-protobuf")
}

// Read reads one event in the form that its Content-Type names, and checks it. The problem is nil when it can be used.
func Read(contentType string, body []byte, now time.Time) (*inventoryv1.Event, *Problem) {
	e := &inventoryv1.Event{}
	if IsProtobuf(contentType) {
		if err := proto.Unmarshal(body, e); err != nil {
			return nil, &Problem{Reason: "not a onebell.inventory.v1.Event in binary protobuf"}
		}
	} else if p := readJSON(body, e); p != nil {
		return nil, p
	}
	if p := Check(e, now); p != nil {
		return nil, p
	}
	return e, nil
}

// readJSON reads the proto3 JSON form, with either spelling of names; unknown fields are ignored.
func readJSON(body []byte, e *inventoryv1.Event) *Problem {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(body, &fields); err != nil || fields == nil {
		if !json.Valid(body) {
			return &Problem{Reason: "not JSON"}
		}
		return &Problem{Reason: "expected an object"}
	}
	if p := onlyOne(fields); p != nil {
		return p
	}
	err := lenient.Unmarshal(body, e)
	if err == nil {
		return nil
	}
	if p := locate(fields, e.ProtoReflect().Type(), ""); p != nil {
		return p
	}
	return &Problem{Reason: plain(err)}
}

var lenient = protojson.UnmarshalOptions{DiscardUnknown: true}

// onlyOne answers the most likely mistake in better words than the reader of protobuf would.
func onlyOne(fields map[string]json.RawMessage) *Problem {
	var given []string
	for _, name := range []string{"stock", "price", "sale"} {
		if v, ok := fields[name]; ok && string(v) != "null" {
			given = append(given, name)
		}
	}
	if len(given) > 1 {
		return &Problem{Reason: strings.Join(given, " and ") + " are set, " + exactlyOne}
	}
	return nil
}

const exactlyOne = "expected exactly one of stock, price, sale"

// locate finds the field that cannot be read, which protojson does not say: it reads each field by itself, and goes down
// into the one that fails. nil when each is good by itself (one that stands twice, in two spellings).
func locate(fields map[string]json.RawMessage, of protoreflect.MessageType, path string) *Problem {
	known := of.Descriptor().Fields()
	for i := range known.Len() {
		field := known.Get(i)
		for _, name := range []string{field.TextName(), field.JSONName()} {
			value, ok := fields[name]
			if !ok {
				continue
			}
			alone, err := json.Marshal(map[string]json.RawMessage{name: value})
			if err == nil && lenient.Unmarshal(alone, of.New().Interface()) == nil {
				continue
			}
			return within(field, value, of, join(path, field.TextName()))
		}
	}
	return nil
}

// within goes into a message that cannot be read, or says what was expected of a plain field.
func within(field protoreflect.FieldDescriptor, value json.RawMessage, of protoreflect.MessageType, path string) *Problem {
	if field.Kind() == protoreflect.MessageKind && field.Message().FullName() != "google.protobuf.Timestamp" {
		var inner map[string]json.RawMessage
		if json.Unmarshal(value, &inner) == nil && inner != nil {
			if p := locate(inner, of.New().NewField(field).Message().Type(), path); p != nil {
				return p
			}
			return &Problem{path, "a field stands twice"}
		}
	}
	return &Problem{path, "expected " + expected(field)}
}

func expected(field protoreflect.FieldDescriptor) string {
	switch {
	case field.IsList():
		return "an array of strings"
	case field.Kind() == protoreflect.Int64Kind:
		return "a whole number, as a number or a string"
	case field.Kind() == protoreflect.StringKind:
		return "a string"
	case field.Message() != nil && field.Message().FullName() == "google.protobuf.Timestamp":
		return "a time like 2026-11-22T10:00:00Z"
	}
	return "an object"
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

// plain is an error of protojson without its prefix, whose spaces vary on purpose.
func plain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\u00a0", " ")
	if _, after, ok := strings.Cut(text, "): "); ok {
		return after
	}
	return strings.TrimPrefix(text, "proto: ")
}

// JSON is an event in the form in which the stream keeps it.
func JSON(e *inventoryv1.Event) ([]byte, error) {
	out, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("write event: %w", err)
	}
	return out, nil
}
