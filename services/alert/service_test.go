package alert_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/rpc"
	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	"github.com/onebell/onebell/proto/ids"
	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	outcomev1 "github.com/onebell/onebell/proto/onebell/outcome/v1"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/services/alert"
)

const (
	page = "104200000000017"
	shop = "wine-and-co"
)

const pagesFile = `
pages:
  - {id: "` + page + `", shop: ` + shop + `, access_token: page-token, app_secrets: [secret], sends_per_second: 3}
`

const rulesFile = `
segments:
  white-wine: "'white-wine' in person.tags"
alerts:
  - topic: stock
%s
    messages:
      - {segment: white-wine, text: "{{.product.title}} is back, and it goes well with oysters. {{.available}} left."}
      - {text: "{{.product.title}} is back in stock.", buttons: [{url: "{{.product.url}}", title: "Buy now"}]}
  - topic: price
    min_drop_percent: 5
    messages: [{text: "{{.product.title}} now costs {{.price.amount}} {{.price.currency}}."}]
`

// crowd is the wall's other side: a token service that lists whom the test put there.
type crowd struct {
	tokenv1.UnimplementedTokenServiceServer
	mu      sync.Mutex
	waiting map[string][]*tokenv1.Permission // by topic, oldest first
	people  map[string]*tokenv1.Person
}

func (c *crowd) add(topic string, n int, tags []string, wish *tokenv1.Wish) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range n {
		psid := fmt.Sprintf("%s-%d", topic, len(c.waiting[topic])+1)
		c.waiting[topic] = append(c.waiting[topic], &tokenv1.Permission{
			PermissionId: ids.Permission(page, psid, psid), PageId: page, Psid: psid, Topic: topic, Wish: wish,
		})
		c.people[psid] = &tokenv1.Person{PageId: page, Psid: psid, Tags: tags}
	}
}

func (c *crowd) ListWaiting(req *tokenv1.ListWaitingRequest, out grpc.ServerStreamingServer[tokenv1.ListWaitingResponse]) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := c.waiting[req.GetTopic()]
	from, _ := strconv.Atoi(req.GetCursor())
	for from < len(all) {
		to := min(from+int(req.GetPageSize()), len(all))
		answer := &tokenv1.ListWaitingResponse{Permissions: all[from:to]}
		for _, p := range answer.GetPermissions() {
			answer.People = append(answer.People, c.people[p.GetPsid()])
		}
		if from = to; from < len(all) {
			answer.Cursor = strconv.Itoa(to)
		}
		if err := out.Send(answer); err != nil {
			return err
		}
	}
	return nil
}

func (c *crowd) GetPermission(_ context.Context, req *tokenv1.GetPermissionRequest) (*tokenv1.GetPermissionResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, list := range c.waiting {
		for _, p := range list {
			if p.GetPermissionId() == req.GetPermissionId() {
				return &tokenv1.GetPermissionResponse{Permission: p}, nil
			}
		}
	}
	return nil, status.Error(codes.NotFound, "no such permission")
}

// house is a running alert service with real streams and a crowd.
type house struct {
	t      *testing.T
	js     jetstream.JetStream
	crowd  *crowd
	client alertv1.AlertServiceClient
	http   string
	stop   func()
	start  func()
}

// open starts a service; stockRule is more lines for the stock alert.
func open(t *testing.T, stockRule ...string) *house {
	t.Helper()
	natsURL, js := testkit.JetStream(t, topology.Configs(1))
	h := &house{t: t, js: js, crowd: &crowd{waiting: map[string][]*tokenv1.Permission{}, people: map[string]*tokenv1.Person{}}}
	tokenLn, grpcLn, httpLn := listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0"), listen(t, "127.0.0.1:0")
	srv := grpc.NewServer()
	tokenv1.RegisterTokenServiceServer(srv, h.crowd)
	testkit.Run(t, "token service", func(ctx context.Context) error {
		context.AfterFunc(ctx, srv.Stop)
		return srv.Serve(tokenLn)
	})

	dir := t.TempDir()
	lines := ""
	for _, l := range stockRule {
		lines += "    " + l + "\n"
	}
	cfg := alert.Config{
		Settings: stream.Settings{NATSURL: natsURL, Replicas: 1}, Door: door.Settings{}, Client: rpc.ClientSettings{},
		TokenAddr: config.Addr(tokenLn.Addr().String()),
		PagesFile: write(t, dir, "pages.yaml", pagesFile), RulesFile: write(t, dir, "rules.yaml", fmt.Sprintf(rulesFile, lines)),
		Listener: grpcLn, HTTPListener: httpLn,
	}
	grpcAddr, httpAddr := grpcLn.Addr().String(), httpLn.Addr().String()
	h.start = func() {
		p, own := testkit.Process(t), cfg
		h.stop = testkit.Run(t, "alert", func(ctx context.Context) error { return alert.Run(ctx, own, p) })
		testkit.Eventually(t, "ready", func() bool {
			ok, lines := p.Ready.Report(t.Context())
			return ok && strings.Contains(strings.Join(lines, " "), "alert: streams")
		})
		cfg.Listener, cfg.HTTPListener = nil, nil // a second start binds again
		cfg.Addr, cfg.HTTPAddr = config.Addr(grpcAddr), config.Addr(httpAddr)
	}
	h.start()
	conn, err := rpc.Dial(grpcAddr, "", 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	h.client, h.http = alertv1.NewAlertServiceClient(conn), "http://"+httpAddr
	return h
}

func listen(t *testing.T, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// publish stores an event as an inventory system does over NATS. body is JSON without the braces.
func (h *house) publish(kind, body string) {
	h.t.Helper()
	if _, err := h.js.Publish(h.t.Context(), "inventory."+kind+".X", []byte("{\"shop\":\""+shop+"\","+body+"}")); err != nil {
		h.t.Fatal(err)
	}
}

// settled waits until the service has nothing to do: no event unworked and no wave left.
func (h *house) settled() {
	h.t.Helper()
	testkit.Eventually(h.t, "events worked", func() bool {
		c, err := h.js.Consumer(h.t.Context(), topology.Inventory, "alert")
		if err != nil {
			return false
		}
		info := c.CachedInfo()
		return info.NumPending == 0 && info.NumAckPending == 0
	})
	testkit.Eventually(h.t, "waves worked", func() bool { return h.count(topology.Waves) == 0 })
}

func (h *house) count(name string) uint64 {
	s, err := h.js.Stream(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	return s.CachedInfo().State.Msgs
}

// packs are all packs on the queue, oldest first.
func (h *house) packs() (packs []*sendv1.Pack) {
	h.t.Helper()
	h.each(topology.Sends, func(msg *jetstream.RawStreamMsg) {
		if want := topology.SendSubject(page, topology.Normal); msg.Subject != want {
			h.t.Errorf("pack on %s, want %s", msg.Subject, want)
		}
		pack := &sendv1.Pack{}
		if err := proto.Unmarshal(msg.Data, pack); err != nil {
			h.t.Fatal(err)
		}
		packs = append(packs, pack)
	})
	return packs
}

func (h *house) sends() (sends []*sendv1.Send) {
	h.t.Helper()
	for _, p := range h.packs() {
		sends = append(sends, p.GetSends()...)
	}
	return sends
}

func (h *house) outcomes() (outcomes []*outcomev1.Outcome) {
	h.t.Helper()
	h.each(topology.Outcomes, func(msg *jetstream.RawStreamMsg) {
		o := &outcomev1.Outcome{}
		if err := protojson.Unmarshal(msg.Data, o); err != nil {
			h.t.Fatal(err)
		}
		if want := topology.OutcomeSubject(page, o.GetPermissionId()[:2], o.GetVerdict()); msg.Subject != want {
			h.t.Errorf("outcome on %s, want %s", msg.Subject, want)
		}
		outcomes = append(outcomes, o)
	})
	return outcomes
}

func (h *house) each(name string, take func(*jetstream.RawStreamMsg)) {
	h.t.Helper()
	s, err := h.js.Stream(h.t.Context(), name)
	if err != nil {
		h.t.Fatal(err)
	}
	state := s.CachedInfo().State
	for seq := state.FirstSeq; seq <= state.LastSeq && state.Msgs > 0; seq++ {
		msg, err := s.GetMsg(h.t.Context(), seq)
		if err != nil {
			continue // worked meanwhile
		}
		take(msg)
	}
}

const rad = `"product":{"title":"Rad shirt","url":"https://shop.example/p/1"}`

func texts(sends []*sendv1.Send) string {
	var all []string
	for _, s := range sends {
		all = append(all, s.GetMessage().GetText())
	}
	return strings.Join(all, "|")
}
