package lifecycle

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/onebell/onebell/pkg/config"
)

// Healthy asks the program whose admin listener is on addr whether it is ready: nil when /readyz says so. An address of
// every interface (:9080) is asked on loopback. It takes at most 3 s: a check of readiness has one second to answer.
func Healthy(ctx context.Context, addr config.Addr) error {
	host, port, err := net.SplitHostPort(string(addr))
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/readyz", nil)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	// A transport of its own: a proxy of the environment has no business between a program and itself.
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return fmt.Errorf("ask for readiness: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("not ready: %s: %s", resp.Status, strings.TrimSpace(string(why)))
	}
	return nil
}

// health is the flag --health: images have no shell and no curl, so the program asks itself. It gives the exit status.
func health(name string, adminAddr config.Addr) int {
	host, err := config.Load[HostSettings](config.Environ(os.Environ()))
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: bad settings:\n%v\n", name, err)
		return ExitBadUsage
	}
	if host.AdminAddr == "" {
		host.AdminAddr = adminAddr
	}
	if err := Healthy(context.Background(), host.AdminAddr); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return ExitFailed
	}
	return ExitDone
}
