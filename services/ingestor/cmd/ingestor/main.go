// Command ingestor takes Messenger's webhooks.
package main

import (
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/ingestor"
)

func main() {
	lifecycle.Main("ingestor", "Messenger webhooks in, events out", "127.0.0.1:9080", ingestor.Run)
}
