// Command console serves the web page for operators and merchandisers.
package main

import (
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/console"
)

func main() {
	lifecycle.Main("console", "the web page for operators and merchandisers", "127.0.0.1:9084", console.Run)
}
