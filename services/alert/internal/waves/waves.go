// Package waves carries out alerts: each message on WAVES is one step, which tells up to a thousand of the people who wait,
// then leaves the next step on WAVES. It decides nothing about a person: see package choose.
package waves

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onebell/onebell/pkg/fault"
	"github.com/onebell/onebell/pkg/reload"
	"github.com/onebell/onebell/pkg/stream"
	inventoryv1 "github.com/onebell/onebell/proto/onebell/inventory/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/alert/internal/choose"
	"github.com/onebell/onebell/services/alert/internal/judge"
	"github.com/onebell/onebell/services/alert/internal/products"
)

// Desk works WAVES.
type Desk struct {
	JS       jetstream.JetStream
	Products products.Store
	Token    tokenv1.TokenServiceClient
	Pages    *reload.File[pages.File]
	Rules    *reload.File[*rules.Rules]
	Log      *slog.Logger

	failures *failures
}

const (
	// chunk is how many permissions one step looks at: small enough to be done within AckWait many times over.
	chunk = 1000
	// ackWait covers a step: reading (readLimit), some 15 packs and at most a thousand outcomes stored, the next wave.
	ackWait = 30 * time.Second
	// readLimit bounds the reading of one step; what is left is the next step's.
	readLimit = 10 * time.Second
	// putOff bounds how long a wave sleeps: after that it is looked at again, so that one whose alert is over does not lie
	// about until the day of a sale.
	putOff = 10 * time.Minute
	// waiting is how many waves may sleep at once: announced sales, holds, cool-downs, each for every page of a shop.
	waiting = 100_000
)

// Consumer works the waves of all pages.
func (d Desk) Consumer() stream.Consumer {
	d.failures = &failures{said: map[string]time.Time{}}
	return stream.Consumer{
		Stream: topology.Waves, Durable: "alert", AckWait: ackWait, Workers: 4, MaxPending: waiting, Double: true,
		DeadSubject: topology.DeadSubject(topology.Waves), Log: d.Log, Handle: d.Handle,
	}
}

// First is the message that begins an alert on a page.
func First(ctx context.Context, alert *inventoryv1.Alert, pageID, shop, sku string) (*nats.Msg, error) {
	return message(ctx, &sendv1.Wave{Alert: alert, PageId: pageID, Shop: shop, Sku: sku, Number: 1, Due: alert.GetDue()})
}

// message is a wave as a message; its id comes from what it is, so that a step repeated after a crash leaves the same next.
func message(ctx context.Context, w *sendv1.Wave) (*nats.Msg, error) {
	body, err := proto.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("write wave: %w", err)
	}
	cursor := sha256.Sum256([]byte(w.GetCursor()))
	id := fmt.Sprintf("%s:%s:%d:%x", w.GetAlert().GetAlertId(), w.GetPageId(), w.GetNumber(), cursor[:8])
	return stream.NewMsg(ctx, topology.WaveSubject(w.GetPageId()), id, body), nil
}

// Handle works one step: packs and outcomes are stored, then the next step, then this one is acknowledged. Killed anywhere,
// the step is repeated with the same ids; a person told meanwhile is refused by the grant.
func (d Desk) Handle(ctx context.Context, msg jetstream.Msg) error {
	wave := &sendv1.Wave{}
	if err := proto.Unmarshal(msg.Data(), wave); err != nil {
		return fault.New(fault.Invalid, "bad_wave", fmt.Errorf("read wave: %w", err))
	}
	log := d.Log.With("alert", wave.GetAlert().GetAlertId(), "topic", wave.GetAlert().GetTopic(), "page", wave.GetPageId(), "wave", wave.GetNumber())
	state, err := d.Products.Get(ctx, wave.GetShop(), wave.GetSku())
	if err != nil {
		return err
	}
	if !judge.InForce(state, wave.GetAlert().GetAlertId()) {
		return d.over(msg, log)
	}
	if rest := time.Until(wave.GetDue().AsTime()); rest > 0 {
		return fault.Later(min(rest, putOff), "not_due", fmt.Errorf("due at %s", wave.GetDue().AsTime().Format(time.RFC3339)))
	}
	page, ok := d.Pages.Get().Page(wave.GetPageId())
	if !ok {
		return fault.Later(time.Minute, "unknown_page", fmt.Errorf("page %s is not in pages.yaml any more", wave.GetPageId()))
	}
	rule, ok := d.Rules.Get().Alert(kind(wave))
	if !ok {
		log.Warn("wave dropped: rules.yaml has no alert for its topic any more")
		return nil
	}
	if wave.GetNumber() == 1 && wave.GetCursor() == "" {
		if err := d.caughtUp(ctx, wave.GetDue().AsTime()); err != nil {
			return err
		}
	}
	begun := time.Now()
	s := step{desk: d, wave: wave, page: page, offer: choose.Offer{Alert: wave.GetAlert(), Rule: rule, Product: state, Page: page}}
	s.size()
	if err := s.choose(ctx); err != nil {
		return err
	}
	if err := s.store(ctx); err != nil {
		return err
	}
	log.Info("wave worked", "told", len(s.sends), "passed_over", len(s.passed), "more", s.next != nil, "took", time.Since(begun))
	return nil
}

// over ends a wave whose alert is not in force. Not at first sight: a replica that answers for the bucket may be a moment
// behind the judge, and a dropped wave would never come again.
func (d Desk) over(msg jetstream.Msg, log *slog.Logger) error {
	if meta, err := msg.Metadata(); err != nil || meta.NumDelivered < 2 {
		return fault.Later(time.Second, "superseded", fmt.Errorf("the alert is not in force: looking again"))
	}
	log.Info("wave dropped", "reason", "superseded")
	return nil
}

// kind is the kind of an alert's topic.
func kind(w *sendv1.Wave) string {
	switch a := w.GetAlert(); {
	case a.GetPrice() != nil:
		return "price"
	case a.GetStartsAt() != nil:
		return "sale"
	}
	return "stock"
}

// size decides how many people a wave may tell, at its first step: people_per_unit for each unit there is now, rounded up.
// Only stock runs out, so other alerts are one wave.
func (s *step) size() {
	w := s.offer.Rule.Waves
	if w == nil || kind(s.wave) != "stock" || s.wave.GetLimited() {
		return
	}
	people := math.Ceil(w.PeoplePerUnit * float64(s.offer.Product.GetStock().GetAvailable()))
	s.wave.Limited, s.wave.Left = true, int64(max(1, min(people, math.MaxInt32)))
}

// follow is the step after this one: on through the same wave, or the next wave when this one is full; nil at the end.
func (s *step) follow(cursor string) *sendv1.Wave {
	if cursor == "" {
		return nil
	}
	next := proto.CloneOf(s.wave)
	next.Cursor = cursor
	if next.GetLimited() && next.GetLeft() == 0 {
		next.Number++
		next.Limited = false
		if w := s.offer.Rule.Waves; w != nil {
			next.Due = timestamppb.New(time.Now().Add(w.Every))
		}
	}
	return next
}
