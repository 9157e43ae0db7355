// Command token runs the token service. Settings come from environment variables: token --help.
package main

import (
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/token"
)

func main() {
	lifecycle.Main("token", "keeps permissions and people in Redis, answers gRPC", "127.0.0.1:9081", token.Run)
}
