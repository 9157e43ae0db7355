// Smoke walks the main road once through what docker-compose.yml published on loopback: a person opens the chat and taps
// Notify me, the shop tells of a restock, one message arrives; a second restock brings none. It exits 0 when all of it
// held, else 1 with what did not.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
)

const page = "104200000000017"

// admins are the admin listeners of the six services.
var admins = map[string]string{
	"ingestor": "127.0.0.1:9080", "token": "127.0.0.1:9081", "alert": "127.0.0.1:9082",
	"sender": "127.0.0.1:9083", "console": "127.0.0.1:9084", "simulator": "127.0.0.1:9085",
}

// smoke is one walk. Its product is its own, so that it can be walked again on the same data.
type smoke struct {
	sku, title             string
	shopToken, operatorKey string
	tokens                 tokenv1.TokenServiceClient
}

func main() {
	secrets := flag.String("secrets", "deploy/compose/secrets", "directory of the bearer tokens")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	// Two minutes: a cold start of the containers takes most of it, the walk itself seconds.
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	err := run(ctx, *secrets)
	cancel()
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "smoke: FAIL:", err)
		os.Exit(1)
	}
	fmt.Println("smoke: one tap, one message, and none for the second restock")
}

func run(ctx context.Context, secrets string) error {
	conn, err := grpc.NewClient("127.0.0.1:7001", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	name := fmt.Sprintf("%d", time.Now().UnixNano())
	s := smoke{sku: "SMOKE-" + name, title: "Smoke " + name, tokens: tokenv1.NewTokenServiceClient(conn)}
	if s.shopToken, err = secret(secrets, "token_shop"); err != nil {
		return err
	}
	if s.operatorKey, err = secret(secrets, "token_operator"); err != nil {
		return err
	}
	for name, addr := range admins {
		if err := until(ctx, name+" is ready", func() error { return call(ctx, http.MethodGet, "http://"+addr+"/readyz", "", nil, nil) }); err != nil {
			return err
		}
	}
	return s.walk(ctx)
}

func (s smoke) walk(ctx context.Context) error {
	psid, err := s.tap(ctx)
	if err != nil {
		return err
	}
	if err := until(ctx, "the permission is waiting", func() error { return s.counts(ctx, 1, 0) }); err != nil {
		return err
	}
	if err := s.closedDoor(ctx); err != nil {
		return err
	}
	if err := s.restock(ctx, 1, 5); err != nil {
		return err
	}
	if err := until(ctx, "the message is in the phone", func() error { return s.messages(ctx, psid, 1) }); err != nil {
		return err
	}
	if err := until(ctx, "the permission is spent", func() error { return s.counts(ctx, 0, 1) }); err != nil {
		return err
	}
	if err := errors.Join(s.restock(ctx, 2, 0), s.restock(ctx, 3, 7)); err != nil {
		return err
	}
	return s.stays(ctx, psid)
}

// tap has a new person open the chat and tap Notify me.
func (s smoke) tap(ctx context.Context) (psid string, err error) {
	var person struct {
		PSID string `json:"psid"`
	}
	if err := call(ctx, http.MethodPost, simulator+"/people", "", map[string]any{"start": true}, &person); err != nil {
		return "", fmt.Errorf("a person opens the chat: %w", err)
	}
	tap := map[string]any{"payload": "stock:" + s.sku, "without_card": true}
	if err := call(ctx, http.MethodPost, simulator+"/people/"+person.PSID+"/taps", "", tap, nil); err != nil {
		return "", fmt.Errorf("the person taps Notify me: %w", err)
	}
	return person.PSID, nil
}

const (
	simulator = "http://127.0.0.1:8089/sim/v1"
	events    = "http://127.0.0.1:8082/v1/events"
)

func (s smoke) event(sequence, available int) map[string]any {
	return map[string]any{
		"event_id": fmt.Sprintf("%s-%d", s.sku, sequence), "shop": "wine-and-co", "sku": s.sku, "sequence": sequence,
		"stock":   map[string]any{"available": available},
		"product": map[string]any{"title": s.title, "url": "https://shop.example/p/" + s.sku},
	}
}

// restock tells of a stock as the shop's inventory system.
func (s smoke) restock(ctx context.Context, sequence, available int) error {
	if err := call(ctx, http.MethodPost, events, s.shopToken, s.event(sequence, available), nil); err != nil {
		return fmt.Errorf("the shop tells of %d in stock: %w", available, err)
	}
	return nil
}

// closedDoor holds that nobody publishes without a token.
func (s smoke) closedDoor(ctx context.Context) error {
	err := call(ctx, http.MethodPost, events, "", s.event(0, 1), nil)
	if err == nil || !strings.Contains(err.Error(), "401") {
		return fmt.Errorf("the events door without a token: %w, expected 401", err)
	}
	return nil
}

// counts holds that so many permissions of the product are waiting and spent.
func (s smoke) counts(ctx context.Context, waiting, spent int64) error {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.operatorKey), 5*time.Second)
	defer cancel()
	answer, err := s.tokens.Count(ctx, &tokenv1.CountRequest{PageId: page, Topic: "stock:" + s.sku})
	if err != nil {
		return err
	}
	var gotWaiting, gotSpent int64
	for _, c := range answer.GetCounts() {
		gotWaiting += c.GetWaiting()
		gotSpent += c.GetSpent()
	}
	if gotWaiting != waiting || gotSpent != spent {
		return fmt.Errorf("%d waiting, %d spent, expected %d and %d", gotWaiting, gotSpent, waiting, spent)
	}
	return nil
}

// messages holds that so many messages about the product are in the person's phone.
func (s smoke) messages(ctx context.Context, psid string, want int) error {
	var answer struct {
		Conversation []json.RawMessage `json:"conversation"`
	}
	if err := call(ctx, http.MethodGet, simulator+"/people/"+psid+"/conversation", "", nil, &answer); err != nil {
		return err
	}
	got := 0
	for _, entry := range answer.Conversation {
		if bytes.Contains(entry, []byte(s.title)) {
			got++
		}
	}
	if got != want {
		return fmt.Errorf("%d messages about %s, expected %d", got, s.title, want)
	}
	return nil
}

// stays holds that the one message stays the only one for five seconds, many times what the first one took.
func (s smoke) stays(ctx context.Context, psid string) error {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if err := errors.Join(s.messages(ctx, psid, 1), s.counts(ctx, 0, 1)); err != nil {
			return fmt.Errorf("after the second restock: %w", err)
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(200 * time.Millisecond):
		return nil
	}
}

// until repeats a check until it holds or the time is up.
func until(ctx context.Context, what string, check func() error) error {
	begin := time.Now()
	for {
		err := check()
		if err == nil {
			fmt.Printf("smoke: %s (%s)\n", what, time.Since(begin).Round(10*time.Millisecond))
			return nil
		}
		if pause(ctx) != nil {
			return fmt.Errorf("not in time: %s: %w", what, err)
		}
	}
}

func secret(dir, name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return "", fmt.Errorf("%w: deploy/compose/secrets.sh makes it", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// call does one HTTP call with a JSON body and answer, each of which may be nil. Any status but 2xx is an error.
func call(ctx context.Context, method, url, token string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, url, content)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, strings.TrimSpace(string(text)))
	}
	if answer == nil {
		return nil
	}
	return json.Unmarshal(text, answer)
}
