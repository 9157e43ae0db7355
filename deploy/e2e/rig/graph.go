package rig

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Call is one POST to the Send API.
type Call struct {
	At     time.Time // when its header had come in
	Path   string
	Header http.Header
	Query  map[string][]string
	Raw    []byte
	Body   SendBody
	// Accepted says whether the platform took the message, whatever it answered.
	Accepted bool
}

// Token is the one-time token that the message is for.
func (c Call) Token() string { return c.Body.Recipient.Token }

// Text is the text of the message, in either form.
func (c Call) Text() string {
	if a := c.Body.Message.Attachment; a != nil {
		return a.Payload.Text
	}
	return c.Body.Message.Text
}

// SendBody is the JSON of a POST.
type SendBody struct {
	Recipient struct {
		Token string `json:"one_time_notif_token"`
		ID    string `json:"id"`
	} `json:"recipient"`
	Message struct {
		Text       string      `json:"text"`
		Metadata   string      `json:"metadata"`
		Attachment *Attachment `json:"attachment"`
	} `json:"message"`
	Proof string `json:"appsecret_proof"`
}

// Attachment is a template.
type Attachment struct {
	Type    string `json:"type"`
	Payload struct {
		TemplateType string   `json:"template_type"`
		Text         string   `json:"text"`
		Buttons      []Button `json:"buttons"`
	} `json:"payload"`
}

// Button opens a page.
type Button struct {
	Type  string `json:"type"`
	URL   string `json:"url"`
	Title string `json:"title"`
}

// Reply is how the fake answers. The zero value accepts the message.
type Reply struct {
	Status int           // 0: the message is accepted and answered with its id
	Body   string        // of an answer with a status
	After  time.Duration // before the answer
	Hang   bool          // the message is accepted, but the answer never comes
}

// Refuse is an error as the platform writes it.
func Refuse(status, code, subcode int) Reply {
	e := map[string]any{"message": "refused by the test", "type": "OAuthException", "code": code, "fbtrace_id": "e2e"}
	if subcode != 0 {
		e["error_subcode"] = subcode
	}
	body, err := json.Marshal(map[string]any{"error": e})
	if err != nil {
		panic(err) // cannot be: strings and numbers
	}
	return Reply{Status: status, Body: string(body)}
}

// Graph plays the Send API. A token is accepted once; a second use is answered with error 100, as the platform does.
type Graph struct {
	t         testing.TB
	addr      string
	mu        sync.Mutex
	srv       *http.Server
	calls     []Call
	used      map[string]int // times a token was accepted
	singleUse bool
	answer    func(n int, c Call) Reply
}

// NewGraph starts a Send API on an address of its own.
func NewGraph(t testing.TB) *Graph {
	t.Helper()
	// Outgoing connections take their ports on 127.0.0.1, so nobody takes this one while the API is down.
	g := &Graph{t: t, addr: "127.0.0.2:0", used: map[string]int{}, singleUse: true}
	g.Answer(func(int, Call) Reply { return Reply{} })
	g.Up()
	t.Cleanup(g.Down)
	return g
}

// URL is the value for ONEBELL_GRAPH_URL.
func (g *Graph) URL() string { return "http://" + g.addr }

// Answer sets how calls are answered from now on. n counts the calls since NewGraph, from 1.
func (g *Graph) Answer(answer func(n int, c Call) Reply) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answer = answer
}

// SingleUse says whether a token can be used only once, as on the platform.
func (g *Graph) SingleUse(yes bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.singleUse = yes
}

// Down makes connections be refused and cuts the open ones.
func (g *Graph) Down() { _ = g.srv.Close() }

// Up takes connections again, on the same address.
func (g *Graph) Up() {
	g.t.Helper()
	ln, err := net.Listen("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	g.srv = &http.Server{Handler: http.HandlerFunc(g.serve), ReadHeaderTimeout: 10 * time.Second}
	go func(srv *http.Server) { _ = srv.Serve(ln) }(g.srv)
}

func (g *Graph) serve(w http.ResponseWriter, r *http.Request) {
	c := Call{At: time.Now(), Path: r.URL.Path, Header: r.Header.Clone(), Query: r.URL.Query()}
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return // the caller is gone
	}
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/messages") {
		http.NotFound(w, r)
		return
	}
	c.Raw = raw
	if err := json.Unmarshal(raw, &c.Body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	reply, id := g.decide(&c)
	select {
	case <-time.After(reply.After):
	case <-r.Context().Done():
		return
	}
	if reply.Hang {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if reply.Status != 0 {
		w.WriteHeader(reply.Status)
		_, _ = io.WriteString(w, reply.Body)
		return
	}
	_, _ = fmt.Fprintf(w, `{"recipient_id":"e2e","message_id":%q}`, id)
}

// decide records a call and what becomes of it.
func (g *Graph) decide(c *Call) (reply Reply, messageID string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.calls) + 1
	reply = g.answer(n, *c)
	if reply.Status == 0 && g.singleUse && g.used[c.Token()] > 0 {
		reply.Status, reply.Body = http.StatusBadRequest, Refuse(0, 100, 0).Body
	}
	if reply.Status == 0 {
		c.Accepted = true
		g.used[c.Token()]++
	}
	g.calls = append(g.calls, *c)
	return reply, fmt.Sprintf("m_e2e-%d", n)
}

// Calls are all calls so far, in the order of their arrival.
func (g *Graph) Calls() []Call {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.calls)
}

// Accepted are the calls so far whose message was taken.
func (g *Graph) Accepted() []Call {
	return slices.DeleteFunc(g.Calls(), func(c Call) bool { return !c.Accepted })
}

// Of are the calls so far with a token.
func (g *Graph) Of(token string) []Call {
	return slices.DeleteFunc(g.Calls(), func(c Call) bool { return c.Token() != token })
}

// Await waits until a number of messages was accepted and gives them.
func (g *Graph) Await(n int) []Call {
	g.t.Helper()
	var got []Call
	deadline := time.Now().Add(Patience)
	for {
		if got = g.Accepted(); len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%d messages accepted within %s, expected %d (calls: %d)", len(got), Patience, n, len(g.Calls()))
		}
		pause(g.t, 5*time.Millisecond)
	}
}
