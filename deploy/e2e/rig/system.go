package rig

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onebell/onebell/proto/ids"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

// Addresses are where a running system takes traffic: the ready file of `onebell up`.
type Addresses struct {
	Webhook   string `json:"webhook"`
	Deletion  string `json:"data_deletion"`
	TokenGRPC string `json:"token_grpc"`
	AlertGRPC string `json:"alert_grpc"`
	AlertHTTP string `json:"alert_http"`
	Console   string `json:"console"`
	Simulator string `json:"simulator"`
	Admin     string `json:"admin"`
	NATS      string `json:"nats"`
	Redis     string `json:"redis"`
	PID       int    `json:"pid"`
}

// System is a running Onebell, in one process or in six, seen from outside.
type System struct {
	t    testing.TB
	Addr Addresses

	Token tokenv1.TokenServiceClient
	Alert alertv1.AlertServiceClient
	JS    jetstream.JetStream
	NATS  *nats.Conn
}

// connect opens the clients. They end with the test; those of a system that was restarted are simply not used any more.
func connect(t testing.TB, addr Addresses) *System {
	t.Helper()
	s := &System{t: t, Addr: addr}
	dial := func(addr string) *grpc.ClientConn {
		cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cc.Close() })
		return cc
	}
	s.Token = tokenv1.NewTokenServiceClient(dial(addr.TokenGRPC))
	s.Alert = alertv1.NewAlertServiceClient(dial(addr.AlertGRPC))
	var err error
	if s.NATS, err = nats.Connect(addr.NATS, nats.Name("e2e"), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.NATS.Close)
	if s.JS, err = jetstream.New(s.NATS); err != nil {
		t.Fatal(err)
	}
	return s
}

// PublishHTTP posts events (JSON) to the alert service.
func (s *System) PublishHTTP(events string) (status int, body []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.Addr.AlertHTTP+"/v1/events", bytes.NewBufferString(events))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return s.do(req)
}

// PublishNATS publishes an event (JSON) to a subject, with headers if any, and waits until it is stored.
func (s *System) PublishNATS(subject, event string, headers nats.Header) {
	s.t.Helper()
	if _, err := s.JS.PublishMsg(s.t.Context(), &nats.Msg{Subject: subject, Data: []byte(event), Header: headers}); err != nil {
		s.t.Fatal(err)
	}
}

// PublishGRPC publishes events by the alert service.
func (s *System) PublishGRPC(events ...*inventoryv1.Event) error {
	_, err := s.Alert.PublishEvents(s.t.Context(), &alertv1.PublishEventsRequest{Events: events})
	return err
}

// Stock publishes a number of units over HTTP.
func (s *System) Stock(p Page, eventID, sku string, available int) {
	s.t.Helper()
	s.Publish(fmt.Sprintf(`{"event_id":%q,"shop":%q,"sku":%q,"stock":{"available":%d},%s}`, eventID, p.Shop, sku, available, Product(sku)))
}

// Publish publishes one good event over HTTP.
func (s *System) Publish(event string) {
	s.t.Helper()
	if status, body := s.PublishHTTP(event); status != http.StatusAccepted {
		s.t.Fatalf("POST /v1/events: %d %s", status, body)
	}
}

// Product is the JSON member that describes a sku in events of these tests.
func Product(sku string) string {
	return fmt.Sprintf(`"product":{"title":"The %s","url":"https://shop.example/p/%s"}`, sku, sku)
}

// Count is how many permissions of a page's topic are in which state; all zero when none was ever recorded.
func (s *System) Count(page, topic string) *tokenv1.TopicCount {
	s.t.Helper()
	res, err := s.Token.Count(s.t.Context(), &tokenv1.CountRequest{PageId: page, Topic: topic})
	if err != nil {
		s.t.Fatalf("Count: %v", err)
	}
	for _, c := range res.GetCounts() {
		if c.GetTopic() == topic {
			return c
		}
	}
	return &tokenv1.TopicCount{PageId: page, Topic: topic}
}

// Counts are the counts of all topics of a page, a line each.
func (s *System) Counts(page string) string {
	s.t.Helper()
	res, err := s.Token.Count(s.t.Context(), &tokenv1.CountRequest{PageId: page})
	if err != nil {
		return err.Error()
	}
	var lines []string
	for _, c := range res.GetCounts() {
		lines = append(lines, fmt.Sprintf("%s waiting %d granted %d unknown %d spent %d expired %d revoked %d void %d\n",
			c.GetTopic(), c.GetWaiting(), c.GetGranted(), c.GetUnknown(), c.GetSpent(), c.GetExpired(), c.GetRevoked(), c.GetVoid()))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Person is what is known of a person; empty when nothing is.
func (s *System) Person(p Page, psid string) *tokenv1.Person {
	res, err := s.Token.GetPerson(s.t.Context(), &tokenv1.GetPersonRequest{PageId: p.ID, Psid: psid})
	if err != nil {
		return nil
	}
	return res.GetPerson()
}

// AwaitPermission waits until the permission of a token is known.
func (s *System) AwaitPermission(p Page, psid, token string) {
	s.t.Helper()
	s.awaitPermission(p, psid, token, "known", func(*tokenv1.Permission) bool { return true })
}

// AwaitState waits until the permission of a token is in a state.
func (s *System) AwaitState(p Page, psid, token string, state tokenv1.PermissionState) {
	s.t.Helper()
	s.awaitPermission(p, psid, token, state.String(), func(got *tokenv1.Permission) bool { return got.GetState() == state })
}

func (s *System) awaitPermission(p Page, psid, token, what string, holds func(*tokenv1.Permission) bool) {
	s.t.Helper()
	id := ids.Permission(p.ID, psid, token)
	Eventually(s.t, "permission of "+token+" is "+what, func() bool {
		res, err := s.Token.GetPermission(s.t.Context(), &tokenv1.GetPermissionRequest{PageId: p.ID, PermissionId: id})
		return err == nil && holds(res.GetPermission())
	})
}

// Ready says whether /readyz of an admin listener answers 200.
func Ready(t testing.TB, admin string) bool {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = res.Body.Close()
	return res.StatusCode == http.StatusOK
}
