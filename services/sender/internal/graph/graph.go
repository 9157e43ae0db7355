// Package graph calls the platform's Send API: one message, one HTTP request, one answer. It never repeats a call and
// decides nothing about what an answer means.
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
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/services/sender/internal/answer"
)

// maxAnswer bounds what is read of an answer; a real one has a few hundred bytes.
const maxAnswer = 64 << 10

// Client calls the Send API. Safe for use from many goroutines.
type Client struct {
	http    *http.Client
	base    string // scheme, host, path, version
	timeout time.Duration
}

// New makes a client for an address without version, like https://graph.facebook.com, and a version like v25.0.
// timeout bounds one call from dial to last byte. connections is how many idle ones are kept.
func New(address, version string, timeout time.Duration, connections int) *Client {
	protocols := new(http.Protocols)
	// HTTP/1.1 with kept connections: measured faster here than one HTTP/2 connection with its limit of streams.
	protocols.SetHTTP1(true)
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, Protocols: protocols,
		DialContext:           (&net.Dialer{Timeout: timeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:   timeout,
		ResponseHeaderTimeout: timeout,
		MaxIdleConns:          connections, MaxIdleConnsPerHost: connections,
		// Below the minute after which most servers and NATs drop an idle connection; it also lets DNS changes in.
		IdleConnTimeout:        50 * time.Second,
		MaxResponseHeaderBytes: maxAnswer,
	}
	return &Client{
		http: &http.Client{
			Transport: transport,
			// A redirect would carry the page's token elsewhere: it is read as an answer like any other.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		base: address + "/" + version, timeout: timeout,
	}
}

// Close drops the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// body is the request of the Send API for a one-time token.
type body struct {
	Recipient recipient `json:"recipient"`
	Message   message   `json:"message"`
}

type recipient struct {
	Token string `json:"one_time_notif_token"`
}

type message struct {
	Text       string      `json:"text,omitempty"`
	Attachment *attachment `json:"attachment,omitempty"`
	Metadata   string      `json:"metadata"`
}

type attachment struct {
	Type    string  `json:"type"`
	Payload payload `json:"payload"`
}

type payload struct {
	TemplateType string   `json:"template_type"`
	Text         string   `json:"text"`
	Buttons      []button `json:"buttons"`
}

type button struct {
	Type  string `json:"type"`
	URL   string `json:"url"`
	Title string `json:"title"`
}

func encode(token, sendID string, m *sendv1.Message) ([]byte, error) {
	b := body{Recipient: recipient{token}, Message: message{Metadata: sendID}}
	if len(m.GetButtons()) == 0 {
		b.Message.Text = m.GetText()
	} else {
		p := payload{TemplateType: "button", Text: m.GetText()}
		for _, bt := range m.GetButtons() {
			p.Buttons = append(p.Buttons, button{"web_url", bt.GetUrl(), bt.GetTitle()})
		}
		b.Message.Attachment = &attachment{"template", p}
	}
	return json.Marshal(b)
}

// Send makes the call and reads the answer to its end. It always gives an answer; ctx ends it early, which counts as Cut
// when the request may have left.
func (c *Client) Send(ctx context.Context, page pages.Page, token, sendID string, m *sendv1.Message) answer.Answer {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := c.request(ctx, page, token, sendID, m)
	if err != nil {
		return answer.Answer{Transport: answer.Unreached, Err: err}
	}
	res, err := c.http.Do(req)
	if err != nil {
		// Without a connection nothing can have left. With one it may have, whatever the error says. net/http itself takes
		// a new connection when a kept one broke before the first byte of the request: that is no second call.
		transport := answer.Unreached
		if connected.Load() {
			transport = answer.Cut
		}
		return answer.Answer{Transport: transport, Err: withoutURL(err)}
	}
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return answer.Answer{Transport: answer.Cut, Status: res.StatusCode, Err: fmt.Errorf("read the answer: %w", err)}
	}
	// What is longer than any real answer is read away, within reason, so that the connection can be kept.
	_, _ = io.CopyN(io.Discard, res.Body, maxAnswer)
	a := parse(res.StatusCode, content)
	a.Regain = regain(res.Header, page.ID)
	a.RetryAfter = retryAfter(res.Header, time.Now())
	return a
}

func (c *Client) request(ctx context.Context, page pages.Page, token, sendID string, m *sendv1.Message) (*http.Request, error) {
	content, err := encode(token, sendID, m)
	if err != nil {
		return nil, fmt.Errorf("encode the message: %w", err)
	}
	address := c.base + "/" + url.PathEscape(page.ID) + "/messages"
	if len(page.AppSecrets) > 0 {
		address += "?appsecret_proof=" + proof(page.AppSecrets[0].Reveal(), page.AccessToken.Reveal())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+page.AccessToken.Reveal())
	req.Header.Set("User-Agent", "onebell-sender")
	return req, nil
}

// proof shows that the caller knows the app's secret: hex HMAC-SHA256, key app secret, over the access token. It is a
// parameter and gives neither away.
func proof(appSecret, accessToken string) string {
	mac := hmac.New(sha256.New, []byte(appSecret))
	mac.Write([]byte(accessToken))
	return hex.EncodeToString(mac.Sum(nil))
}
