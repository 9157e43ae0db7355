// Package onebell is the program `onebell`: all services in one process, and the command-line client. It parses commands
// and gives exit statuses; the work is in its rooms.
package onebell

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
	"github.com/onebell/onebell/services/onebell/internal/client"
	"github.com/onebell/onebell/services/onebell/internal/exit"
	"github.com/onebell/onebell/services/onebell/internal/up"
)

const about = `One opt-in, one bell: Onebell tells people in Messenger that a product is back, cheaper or on sale, once.

"onebell up --demo" starts everything on this machine with a small shop to try it with. The other commands talk to what
runs: they find it through --ready-file FILE or ONEBELL_READY_FILE (the file that "onebell up --ready-file FILE" writes),
else through ONEBELL_TOKEN_ADDR, ONEBELL_ALERT_ADDR and ONEBELL_NATS_URL, else at the default addresses.

Exit status: 0 done; 1 done, and the answer is "no" or "problems found"; 2 bad usage, settings or input; 3 a service could
not be reached.`

type commands struct {
	Up          upCommand          `cmd:"" help:"Run everything on this machine: all services, NATS and Redis."`
	Event       client.Event       `cmd:"" help:"Tell Onebell that stock, a price or a sale changed."`
	Permissions client.Permissions `cmd:"" help:"Who is waiting, and what became of permissions."`
	People      client.People      `cmd:"" help:"Forget a person, or export what is held about one."`
	Explain     client.Explain     `cmd:"" help:"Tell everything that happened to a person, a permission or a send."`
	Dead        client.Dead        `cmd:"" help:"What was given up."`
	Rules       client.Rules       `cmd:"" help:"Work on rules.yaml."`
	Pages       client.Pages       `cmd:"" help:"Work on pages.yaml."`
	Version     kong.VersionFlag   `help:"Print the version."`
}

type upCommand struct {
	Data      string `help:"Directory for everything that is kept (ONEBELL_DATA_DIR; default onebell-data)." placeholder:"DIR"`
	ReadyFile string `help:"File to write all addresses to once everything accepts traffic (ONEBELL_READY_FILE)." placeholder:"FILE"`
	Demo      bool   `help:"Begin with a small demo shop: its pages and rules are written to DIR/demo."`
	Sync      string `help:"When the embedded NATS writes to disk: always, before each acknowledgement; or interval, every two minutes (ONEBELL_NATS_SYNC; default always)." enum:"always,interval," default:"" placeholder:"always|interval"`
	Pages     string `help:"The pages: pages.yaml (ONEBELL_PAGES_FILE)." placeholder:"FILE"`
	Rules     string `help:"The rules: rules.yaml (ONEBELL_RULES_FILE)." placeholder:"FILE"`
}

// Help is shown below the flags.
func (upCommand) Help() string {
	return `Every listener and setting is an environment variable: SETTINGS.md lists them. Unset ones have defaults on this machine
only (loopback), but for the ingestor's, which is public by nature (with --demo it is not). A private redis-server is
started when there is one on PATH; a stand-in does its work otherwise.`
}

// Run lays the flags over the environment.
func (c upCommand) Run(e *client.Env) error {
	for variable, value := range map[string]string{
		"ONEBELL_DATA_DIR": c.Data, "ONEBELL_READY_FILE": c.ReadyFile, "ONEBELL_NATS_SYNC": c.Sync,
		"ONEBELL_PAGES_FILE": c.Pages, "ONEBELL_RULES_FILE": c.Rules,
	} {
		if value != "" {
			e.Environ[variable] = value
		}
	}
	if e.Environ["ONEBELL_LOG_FORMAT"] == "" && terminal(e.Err) {
		e.Environ["ONEBELL_LOG_FORMAT"] = "text"
	}
	return up.Run(e.Ctx, up.Options{Environ: e.Environ, Demo: c.Demo, Out: e.Out})
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// helped is what --help and --version end the parsing with.
type helped int

// Main runs one command and gives the exit status.
func Main(ctx context.Context, args, environ []string, out, errOut io.Writer) (status int) {
	defer func() {
		if v := recover(); v != nil {
			code, ok := v.(helped)
			if !ok {
				panic(v)
			}
			status = int(code)
		}
	}()
	var c commands
	parser, err := kong.New(&c,
		kong.Name("onebell"), kong.Description(about), kong.Writers(out, errOut), kong.ConfigureHelp(kong.HelpOptions{Compact: true, FlagsLast: true}),
		kong.Vars{"version": "onebell " + lifecycle.BuildVersion()},
		kong.Exit(func(code int) { panic(helped(code)) }),
	)
	if err != nil {
		panic(err) // the commands are a constant: a test would have found it
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(errOut, "onebell: %v (see onebell --help)\n", err)
		return lifecycle.ExitBadUsage
	}
	err = command.Run(&client.Env{Ctx: ctx, Environ: config.Environ(environ), Out: out, Err: errOut})
	if err != nil && err.Error() != "" {
		fmt.Fprintf(errOut, "onebell: %s\n", strings.TrimPrefix(err.Error(), "onebell: "))
	}
	return exit.Status(err)
}
