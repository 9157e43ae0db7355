// Onebell runs all services on one machine (`onebell up`) and is the command-line client.
package main

import (
	"context"
	"os"

	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/onebell"
)

func main() {
	ctx, stop := lifecycle.Signals(context.Background())
	status := onebell.Main(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}
