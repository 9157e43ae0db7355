// Command sender runs the sender as a program of its own.
package main

import (
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/sender"
)

func main() {
	lifecycle.Main[sender.Config]("sender", "sends in, Send API called, outcomes out", "127.0.0.1:9083", sender.Run)
}
