// Package graph is the platform's HTTP API: sending messages and subscribing to webhooks. It reads calls and writes
// answers in the platform's form; what is allowed is decided behind it.
package graph

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/simulator/internal/messenger"
	"github.com/onebell/onebell/services/simulator/internal/platform"
)

// maxBody bounds a call. Messages are a few kilobytes.
const maxBody = 1 << 20

// maxHang is how long an answer that never comes is withheld: longer than any sensible client waits.
const maxHang = time.Minute

// API serves the Graph API.
type API struct{ messenger *messenger.Messenger }

// Handler serves the routes. They ask for the page's access token, as the platform does, and for no other identity.
func Handler(m *messenger.Messenger) http.Handler {
	a := &API{m}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{version}/{page}/messages", a.send)
	mux.HandleFunc("GET /{version}/{page}/subscribed_apps", a.subscriptions)
	mux.HandleFunc("POST /{version}/{page}/subscribed_apps", a.subscribe)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		a.refuse(w, r, messenger.CallIn, "", platform.UnknownPath())
	})
	return mux
}

var version = regexp.MustCompile(`^/v\d+\.\d+/`)

// Owns says whether an address is the Graph API's: /v25.0/...
func Owns(path string) bool { return version.MatchString(path) }

// call is a request that came in: who calls, for which page, with which parameters.
type call struct {
	page   pages.Page
	body   []byte // the JSON body; of a form, the JSON that it stands for
	params url.Values
	proof  bool
}

// read finds out who calls. The parameters come from the query and from a form body; the JSON body is left as it is.
func (a *API) read(r *http.Request) (call, *platform.Error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil || len(body) > maxBody {
		return call{}, platform.BadRequest("The request body cannot be read, or is larger than %d bytes", maxBody)
	}
	c := call{body: body, params: r.URL.Query()}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return call{}, platform.BadRequest("The form cannot be read")
		}
		maps.Copy(c.params, form)
		c.body = fromForm(form)
	}
	token := c.params.Get("access_token")
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		token = bearer
	}
	if refused := a.admit(&c, r.PathValue("page"), token); refused != nil {
		return call{}, refused
	}
	return c, nil
}

// admit checks page, token and proof, in the order in which the platform complains.
func (a *API) admit(c *call, id, token string) *platform.Error {
	all := a.messenger.Pages()
	owns := func(p pages.Page) bool { return hmac.Equal([]byte(p.AccessToken.Reveal()), []byte(token)) }
	owner := slices.IndexFunc(all.Pages, owns)
	if owner < 0 {
		return platform.Documented(platform.WrongToken)
	}
	c.page = all.Pages[owner]
	if id != "me" && id != c.page.ID {
		page, ok := all.Page(id)
		switch {
		case !ok:
			e := platform.Documented(platform.UnknownPage)
			e.Message = strings.Replace(e.Message, "'x'", "'"+id+"'", 1)
			return e
		case !owns(page): // two pages may share a token here
			return platform.Documented(platform.WrongToken)
		}
		c.page = page
	}
	proof := c.params.Get("appsecret_proof")
	if proof == "" {
		return nil
	}
	c.proof = true
	for _, secret := range c.page.AppSecrets {
		mac := hmac.New(sha256.New, []byte(secret.Reveal()))
		mac.Write([]byte(token))
		if hmac.Equal([]byte(hex.EncodeToString(mac.Sum(nil))), []byte(proof)) {
			return nil
		}
	}
	return platform.BadProof()
}

// fromForm is the JSON that a form body stands for: recipient and message are JSON themselves.
func fromForm(form url.Values) []byte {
	object := map[string]json.RawMessage{}
	for name, values := range form {
		if name == "access_token" || name == "appsecret_proof" || len(values) == 0 {
			continue
		}
		raw := json.RawMessage(values[0])
		if !json.Valid(raw) || raw[0] != '{' {
			raw, _ = json.Marshal(values[0]) // a string: cannot fail
		}
		object[name] = raw
	}
	body, _ := json.Marshal(object) // of valid parts: cannot fail
	return body
}

func (a *API) send(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	c, refused := a.read(r)
	var s platform.Send
	if refused == nil {
		s, refused = platform.ParseSend(c.body)
	}
	if refused != nil {
		a.refuse(w, r, messenger.SendIn, c.page.ID, refused)
		return
	}
	play := a.messenger.Play(c.page.ID)
	if !pause(r.Context(), play.Latency) {
		return
	}
	result := a.messenger.Send(messenger.Call{
		Page: c.page, Send: s, Body: a.clean(c.body), By: "app", Proof: c.proof, Trace: r.Header.Get("traceparent"), Arrived: arrived, Play: play,
	})
	switch {
	case play.Before == "cut" || play.After == "reset" && result.Err == nil:
		panic(http.ErrAbortHandler) // the connection ends without an answer
	case play.After == "timeout" && result.Err == nil:
		pause(r.Context(), maxHang)
		panic(http.ErrAbortHandler)
	}
	if usage := result.Usage.Header(c.page.ID); usage != "" {
		w.Header().Set("X-Business-Use-Case-Usage", usage)
	}
	switch {
	case result.Err != nil:
		a.error(w, result.Err)
	case play.After == "rubbish":
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<html>upstream hiccup</html>")
	default:
		answer(w, http.StatusOK, struct {
			RecipientID string `json:"recipient_id,omitempty"`
			MessageID   string `json:"message_id"`
		}{result.RecipientID, result.MessageID})
	}
}

// clean removes what the journal must never hold, wherever in the body it stands.
func (a *API) clean(body []byte) json.RawMessage {
	for _, p := range a.messenger.Pages().Pages {
		body = bytes.ReplaceAll(body, []byte(p.AccessToken.Reveal()), []byte("***"))
		for _, s := range p.AppSecrets {
			body = bytes.ReplaceAll(body, []byte(s.Reveal()), []byte("***"))
		}
	}
	if !json.Valid(body) { // a token that is no plain word tore it
		return nil
	}
	return body
}

// pause waits; false when the client went away.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *API) subscriptions(w http.ResponseWriter, r *http.Request) {
	c, refused := a.read(r)
	if refused != nil {
		a.refuse(w, r, messenger.CallIn, c.page.ID, refused)
		return
	}
	a.note(r, c.page.ID, http.StatusOK)
	type app struct {
		Category string   `json:"category"`
		Link     string   `json:"link"`
		Name     string   `json:"name"`
		ID       string   `json:"id"`
		Fields   []string `json:"subscribed_fields"`
	}
	answer(w, http.StatusOK, map[string][]app{"data": {{"Business", "https://bot.example.com/", "Onebell", fmt.Sprint(platform.AppID), a.messenger.Fields(c.page.ID)}}})
}

func (a *API) subscribe(w http.ResponseWriter, r *http.Request) {
	c, refused := a.read(r)
	if refused == nil && c.params.Get("subscribed_fields") == "" {
		var body struct {
			Fields json.RawMessage `json:"subscribed_fields"`
		}
		_ = json.Unmarshal(c.body, &body) // unreadable: then no field is named, and that is refused below
		var list []string
		if json.Unmarshal(body.Fields, &list) != nil {
			var one string
			_ = json.Unmarshal(body.Fields, &one)
			list = []string{one}
		}
		c.params.Set("subscribed_fields", strings.Join(list, ","))
	}
	fields := strings.FieldsFunc(c.params.Get("subscribed_fields"), func(r rune) bool { return r == ',' || r == ' ' })
	if refused == nil && len(fields) == 0 {
		refused = platform.BadRequest("Param subscribed_fields must name at least one field")
	}
	if refused != nil {
		a.refuse(w, r, messenger.CallIn, c.page.ID, refused)
		return
	}
	a.messenger.Subscribe(c.page.ID, fields)
	a.note(r, c.page.ID, http.StatusOK)
	answer(w, http.StatusOK, map[string]bool{"success": true})
}

func (a *API) note(r *http.Request, page string, status int) {
	a.messenger.Note(messenger.Line{What: messenger.CallIn, PageID: page, Detail: r.Method + " " + r.URL.Path, Status: status})
}

func (a *API) refuse(w http.ResponseWriter, r *http.Request, what, page string, e *platform.Error) {
	a.messenger.Note(messenger.Line{
		What: what, PageID: page, By: "app", Detail: r.Method + " " + r.URL.Path,
		Status: e.Status, Code: e.Code, Subcode: e.Subcode, Problem: e.Message,
	})
	a.error(w, e)
}

func (a *API) error(w http.ResponseWriter, e *platform.Error) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(e.Status)
	_, _ = w.Write(e.Body(fmt.Sprintf("Sim%x", time.Now().UnixNano())))
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client went away: nobody to tell
}
