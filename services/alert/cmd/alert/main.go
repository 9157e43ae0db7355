// Command alert turns stock, price and sale events into sends.
package main

import (
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/alert"
)

func main() {
	lifecycle.Main("alert", "stock, price and sale events in, sends out", "127.0.0.1:9082", alert.Run)
}
