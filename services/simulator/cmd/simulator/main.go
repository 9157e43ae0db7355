// Command simulator runs a stand-in for the Messenger platform.
package main

import (
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/simulator"
)

func main() {
	lifecycle.Main("simulator", "a Messenger platform to develop and test against", "127.0.0.1:9085", simulator.Run)
}
