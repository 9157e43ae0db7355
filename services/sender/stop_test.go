package sender

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/stream"
	"github.com/onebell/onebell/pkg/testkit"
	sendv1 "github.com/onebell/onebell/proto/onebell/send/v1"
	"github.com/onebell/onebell/proto/topology"
	"github.com/onebell/onebell/proto/verdict"
)

// A sender that is cut off after its call was accepted leaves neither an outcome nor an acknowledgement, like one that was
// killed. The next one repeats the send with the same token.
func TestASendInFlightIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	line := newCable(t, strings.TrimPrefix(w.nats, "nats://"))
	arrived, cut := make(chan struct{}), make(chan struct{})
	w.platform.set(func(_ http.ResponseWriter, _ *http.Request, _ request, deliver func() bool) bool {
		if !deliver() {
			return false
		}
		close(arrived)
		<-cut
		panic(http.ErrAbortHandler) // the answer never comes
	})
	cfg := w.config()
	cfg.NATSURL = "nats://" + line.addr
	stop := w.start(cfg)
	w.publish(pageID, w.send(pageID, "ann"))
	<-arrived
	line.cut()
	close(cut)
	stop()
	if n := len(w.outcomes()); n != 0 {
		t.Fatalf("%d outcomes before the restart", n)
	}

	w.start(w.config())
	testkit.Eventually(t, "the send is taken up", func() bool { return w.verdicts()[verdict.SentBefore] == 1 && w.queued() == 0 })
	requests := w.platform.requests()
	if len(requests) != 2 || requests[0].token != requests[1].token || !reflect.DeepEqual(requests[0].body, requests[1].body) {
		t.Errorf("requests %+v", requests)
	}
}

// The same sends in two packs, while the first is in work: the token service would take the second grant for a repeat after
// a crash.
func TestASendInWorkIsNotCalledASecondTimeBesideIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	arrived, answer := make(chan struct{}, 8), make(chan struct{})
	w.platform.set(func(http.ResponseWriter, *http.Request, request, func() bool) bool {
		arrived <- struct{}{}
		<-answer
		return false
	})
	w.start(w.config())
	ann, bob := w.send(pageID, "ann"), w.send(pageID, "bob")
	w.publish(pageID, ann, ann) // twice in one pack, too
	<-arrived
	w.publish(pageID, bob, ann)
	testkit.Eventually(t, "the second pack is put off", func() bool { return strings.Contains(w.log.String(), "reason=in_work") })
	if n := len(w.platform.requests()); n != 1 {
		t.Errorf("%d calls while the first is under way", n)
	}
	close(answer)
	w.settled(2)
	if n := len(w.platform.requests()); n != 2 {
		t.Errorf("%d calls for 2 people", n)
	}
}

// What fails between the grant and the call leaves no grant behind: the next one is not taken for a repeat, and a token that
// is invalid then was not sent before.
func TestWhatFailsBeforeTheCallGivesTheGrantBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		away, again func(w *world) error
	}{
		{
			"the products cannot be read",
			func(w *world) error { return w.js.DeleteKeyValue(w.t.Context(), topology.Products) },
			func(w *world) (err error) {
				w.products, err = stream.EnsureBucket(w.t.Context(), w.js, topology.ProductsConfig(1), testkit.Log(w.t))
				w.stock("S", 1)
				return err
			},
		},
		{
			"the tries cannot be written",
			func(w *world) error { return w.js.DeleteStream(w.t.Context(), topology.Tries) },
			func(w *world) error { return stream.Ensure(w.t.Context(), w.js, topology.Configs(1), testkit.Log(w.t)) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.stock("S", 1)
			w.platform.set(func(rw http.ResponseWriter, _ *http.Request, _ request, _ func() bool) bool {
				refuse(rw, 400, 100, 0)
				return true
			})
			w.start(w.config())
			testkit.Eventually(t, "the sender works", func() bool {
				_, err := w.js.Consumer(t.Context(), topology.Sends, "sender-"+pageID+"-normal")
				return err == nil
			})
			if err := c.away(w); err != nil {
				t.Fatal(err)
			}
			send := w.send(pageID, "ann")
			send.Condition = &sendv1.Condition{Shop: "default", Sku: "S", MinAvailable: 1}
			w.publish(pageID, send)
			testkit.Eventually(t, "the grant is given back", func() bool { return w.verdicts()[verdict.Throttled] > 0 })
			if o := w.outcomes()[0]; !o.GetReleased() || o.GetFinal() || o.GetFence() == 0 {
				t.Errorf("%v", o)
			}
			if err := c.again(w); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, "the call is made", func() bool { return w.verdicts()[verdict.TokenInvalid] == 1 && w.queued() == 0 })
			if counts := w.verdicts(); counts[verdict.SentBefore] > 0 {
				t.Errorf("%v", counts)
			}
		})
	}
}

func TestAStopInTheMiddleOfAPackLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.setPages(page(pageID, "page-token-1", 5))
	stop := w.start(w.config())
	var sends []*sendv1.Send
	for i := range 30 {
		sends = append(sends, w.send(pageID, fmt.Sprint("p", i)))
	}
	w.publish(pageID, sends...)
	testkit.Eventually(t, "some are sent", func() bool { return w.platform.delivered() >= 3 })
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the stop took %s", took)
	}
	w.setPages(page(pageID, "page-token-1", 100))
	w.start(w.config())
	w.settled(30)
	if n := len(w.platform.requests()); n != 30 {
		t.Errorf("%d calls for 30 people", n)
	}
	if counts := w.verdicts(); counts[verdict.Sent] != 30 || counts[verdict.SentBefore] > 0 {
		t.Errorf("%v", counts)
	}
}

// cable carries a TCP connection until it is cut.
type cable struct {
	addr string
	mu   sync.Mutex
	ends []net.Conn
	ln   net.Listener
}

func newCable(t *testing.T, to string) *cable {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{addr: ln.Addr().String(), ln: ln}
	t.Cleanup(c.cut)
	go func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			c.mu.Lock()
			c.ends = append(c.ends, near, far)
			c.mu.Unlock()
			go func() { _, _ = io.Copy(near, far) }()
			go func() { _, _ = io.Copy(far, near) }()
		}
	}()
	return c
}

func (c *cable) cut() {
	_ = c.ln.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, end := range c.ends {
		_ = end.Close()
	}
}
