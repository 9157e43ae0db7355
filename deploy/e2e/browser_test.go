package e2e_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/onebell/onebell/deploy/e2e/rig"
)

// What a visitor does with `onebell up --demo`: taps Notify me in the phone, presses restock, and reads one message. The
// product sells out and comes back: nothing more.
func TestPhone(t *testing.T) {
	t.Parallel()
	m := rig.NewMachine(t, rig.Options{Args: []string{"--demo"}})
	p := phone{t, browser(t)}
	p.do(chromedp.Navigate(m.Addr.Simulator), chromedp.WaitVisible(chromedp.ID("phone")))
	t.Cleanup(func() {
		if t.Failed() {
			p.screenshot("failed.png")
		}
	})

	p.click("notify-RAD-SHIRT-M-stock")
	rig.Eventually(t, "the permission is recorded", func() bool { return m.Count(page.ID, "stock:RAD-SHIRT-M").GetWaiting() == 1 })
	before := p.bells()
	p.press("restock-RAD-SHIRT-M")
	rig.Eventually(t, "the message is in the phone", func() bool { return p.bells() == before+1 })

	p.press("soldout-RAD-SHIRT-M")
	p.press("restock-RAD-SHIRT-M")
	m.Quiet()
	rig.Steady(t, "messages after the second restock", time.Second, p.bells)
	if n := p.bells() - before; n != 1 {
		t.Errorf("%d messages in the phone, expected 1", n)
	}
	if c := m.Count(page.ID, "stock:RAD-SHIRT-M"); c.GetSpent() != 1 || c.GetWaiting() != 0 {
		t.Errorf("counts: %v", c)
	}
	p.screenshot("phone.png")
}

// phone is the page of the simulator in a browser.
type phone struct {
	t   *testing.T
	ctx context.Context
}

func (p phone) do(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, steps...); err != nil {
		p.t.Fatalf("browser: %v", err)
	}
}

func (p phone) click(id string) {
	p.t.Helper()
	p.do(chromedp.WaitEnabled(chromedp.ID(id)), chromedp.Click(chromedp.ID(id), chromedp.NodeVisible))
}

// press clicks a button of the shop's desk and waits until the desk has told Onebell: the button can be pressed again then.
func (p phone) press(id string) {
	p.t.Helper()
	p.click(id)
	p.do(chromedp.WaitEnabled(chromedp.ID(id)))
}

// bells counts the messages in the phone that were sent by a one-time token.
func (p phone) bells() int {
	p.t.Helper()
	n, err := chromedp.Run(p.ctx, chromedp.Evaluate[int](`document.querySelectorAll("#phone [data-testid=notification]").length`))
	if err != nil {
		p.t.Fatalf("browser: %v", err)
	}
	return n
}

func (p phone) screenshot(name string) {
	p.t.Helper()
	png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		p.t.Logf("screenshot: %v", err)
		return
	}
	path := filepath.Join(p.t.ArtifactDir(), name)
	if err := os.WriteFile(path, png, 0o600); err != nil {
		p.t.Logf("screenshot: %v", err)
		return
	}
	p.t.Logf("screenshot: %s", path)
}

// browser is a tab of a headless Chromium with a profile of its own, which is removed with it.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: `make test` installs it", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.Flag("disable-component-update", true), chromedp.WindowSize(1280, 1000))
	ctx, cancel := context.WithTimeout(t.Context(), 2*rig.Patience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}
