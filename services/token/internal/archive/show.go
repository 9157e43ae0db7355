package archive

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// TokenOf is the platform's token in an opt-in; empty when there is none.
func TokenOf(msg jetstream.Msg) string {
	if msg.Headers().Get(topology.HeaderKind) == topology.KindRecord {
		var item tokenv1.RecordItem
		if proto.Unmarshal(msg.Data(), &item) != nil {
			return ""
		}
		return item.GetToken()
	}
	var e struct {
		Optin struct {
			Token string `json:"one_time_notif_token"`
		} `json:"optin"`
	}
	if json.Unmarshal(msg.Data(), &e) != nil {
		return ""
	}
	return e.Optin.Token
}

// Body is what a message says, as JSON, without tokens of the platform.
func Body(m Message) (json.RawMessage, error) {
	names := protojson.MarshalOptions{UseProtoNames: true}
	switch {
	case m.Stream == topology.People:
		var f tokenv1.PersonFact
		if err := proto.Unmarshal(m.Data(), &f); err != nil {
			return nil, err
		}
		return names.Marshal(&f)
	case m.Headers().Get(topology.HeaderKind) == topology.KindRecord:
		var item tokenv1.RecordItem
		if err := proto.Unmarshal(m.Data(), &item); err != nil {
			return nil, err
		}
		item.Token = ""
		return names.Marshal(&item)
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(m.Data()))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return json.Marshal(strings.ToValidUTF8(string(m.Data()), "\uFFFD"))
	}
	return json.Marshal(withoutTokens(v))
}

// withoutTokens leaves out the fields in which the platform puts tokens.
func withoutTokens(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if strings.HasSuffix(name, "_token") {
				delete(v, name)
				continue
			}
			v[name] = withoutTokens(inner)
		}
	case []any:
		for i := range v {
			v[i] = withoutTokens(v[i])
		}
	}
	return v
}

// pageOf is the page in a subject.
func pageOf(subject string) string {
	parts := strings.SplitN(subject, ".", 3)
	if len(parts) < 3 {
		return ""
	}
	return parts[1]
}
