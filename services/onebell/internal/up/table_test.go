package up

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/onebell/onebell/pkg/config"
	"github.com/onebell/onebell/pkg/lifecycle"
)

var update = flag.Bool("update", false, "write SETTINGS.md anew")

const settingsFile = "../../SETTINGS.md"

// The table of settings in SETTINGS.md is that of the code.
func TestSettingsTable(t *testing.T) {
	t.Parallel()
	want := settingsTable(t)
	if *update {
		if err := os.WriteFile(settingsFile, []byte(want), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(settingsFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("SETTINGS.md is not what the code says: run go test ./internal/up -run TestSettingsTable -update in services/onebell")
	}
}

type row struct {
	config.Setting
	users []string
}

func settingsTable(t *testing.T) string {
	rows := map[string]*row{}
	add := func(user string, table []config.Setting) {
		for _, s := range table {
			r := rows[s.Name]
			if r == nil {
				r = &row{Setting: s}
				rows[s.Name] = r
			}
			if r.Default != s.Default {
				t.Errorf("%s has the default %q in %s and %q in %s", s.Name, r.Default, r.users[0], s.Default, user)
			}
			if !slices.Contains(r.users, user) {
				r.users = append(r.users, user)
			}
		}
	}
	for _, s := range services {
		add(s.name, s.table())
	}
	add("onebell up", config.Table[Settings]())
	for _, s := range config.Table[lifecycle.HostSettings]() {
		rows[s.Name].users = []string{"every program"}
	}

	var b strings.Builder
	b.WriteString(settingsHead)
	for _, name := range slices.Sorted(maps.Keys(rows)) {
		r := rows[name]
		byDefault := ""
		if r.Default != "" {
			byDefault = "`" + r.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, byDefault, strings.ReplaceAll(r.Help, "|", `\|`), strings.Join(r.users, ", "))
		if r.Help == "" {
			t.Errorf("%s has no help text (%s)", name, r.users)
		}
	}
	b.WriteString(settingsFoot)
	return b.String()
}

const settingsHead = `# Settings

Every setting is an environment variable. This table is made from the code: ` + "`go test ./internal/up -run TestSettingsTable -update`" + `
in ` + "`services/onebell`" + ` writes it anew, and the same test fails when it is not what the code says.

An address is ` + "`host:port`" + `; port 0 means any free port. A variable of an address is where the service itself listens and where its
clients call it. A bad setting stops a program at its start with every problem listed, exit status 2.

| variable | default | what | used by |
| --- | --- | --- | --- |
`

const settingsFoot = `
The standard variables of OpenTelemetry hold too: with ` + "`OTEL_EXPORTER_OTLP_ENDPOINT`" + ` set, traces are exported there (gRPC).

## What onebell up sets by itself

Where the user set nothing, ` + "`onebell up`" + ` gives its services:

- ` + "`ONEBELL_NATS_URL`, `ONEBELL_REDIS_URL`" + `: the NATS server inside it and the private Redis that it starts;
- ` + "`ONEBELL_SEAL_KEY`" + `: a key that it makes in the data directory, ` + "`seal.key`" + `;
- ` + "`ONEBELL_GRAPH_URL`" + `: the simulator;
- ` + "`ONEBELL_WEBHOOK_URL`, `ONEBELL_EVENTS_URL`" + ` (for the simulator): the ingestor and the alert service beside it;
- ` + "`ONEBELL_SIMULATOR_STATE`" + `: a file in the data directory, ` + "`simulator.jsonl`" + `;
- ` + "`ONEBELL_ADMIN_ADDR`" + `: ` + "`127.0.0.1:9080`" + `, one for all services;
- with ` + "`--demo`, `ONEBELL_PAGES_FILE` and `ONEBELL_RULES_FILE`" + `: a demo shop in the data directory; and, because its
  secrets are known to everybody, ` + "`ONEBELL_INGESTOR_ADDR`" + `: ` + "`127.0.0.1:8080`" + `.

The addresses at which its services call each other are always those that were bound.
`
