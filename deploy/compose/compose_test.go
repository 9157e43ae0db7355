// Package compose holds docker-compose.yml, and what it mounts, against the code.
package compose_test

import (
	"log/slog"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"go.yaml.in/yaml/v3"

	"github.com/onebell/onebell/pkg/admin"
	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/embed"
	"github.com/onebell/onebell/proto/pages"
	"github.com/onebell/onebell/proto/rules"
)

const root = "../.."

// ours are the six services.
var ours = []string{"alert", "console", "ingestor", "sender", "simulator", "token"}

type composeFile struct {
	Services map[string]service
	Secrets  map[string]struct{ File string }
}

type service struct {
	Image string
	Build struct {
		Dockerfile string
		Args       map[string]string
	}
	Environment map[string]string
	EnvFile     []string `yaml:"env_file"`
	Secrets     []string
	Ports       []string
	Volumes     []string
	ReadOnly    bool     `yaml:"read_only"`
	CapDrop     []string `yaml:"cap_drop"`
	Healthcheck struct{ Test []string }
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
}

func compose(t *testing.T) composeFile {
	t.Helper()
	var f composeFile
	if err := yaml.Unmarshal([]byte(read(t, "docker-compose.yml")), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestComposeNamesTheSystem(t *testing.T) {
	t.Parallel()
	f := compose(t)
	want := append([]string{"nats", "redis"}, ours...)
	if got := slices.Sorted(maps.Keys(f.Services)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("services %v, expected %v", got, want)
	}
	for name, s := range f.Services {
		if !s.ReadOnly || !slices.Equal(s.CapDrop, []string{"ALL"}) {
			t.Errorf("%s: writes to its root or keeps capabilities", name)
		}
		if len(s.Healthcheck.Test) == 0 {
			t.Errorf("%s: has no health check, so nothing can wait for it", name)
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: port %s is published beyond loopback", name, port)
			}
		}
		for other, on := range s.DependsOn {
			if _, there := f.Services[other]; !there || on.Condition != "service_healthy" {
				t.Errorf("%s: depends on %s (%s)", name, other, on.Condition)
			}
		}
	}
	for _, name := range ours {
		if s := f.Services[name]; s.Build.Args["SERVICE"] != name || s.Build.Dockerfile != "deploy/docker/Dockerfile" {
			t.Errorf("%s: built from %q as %q", name, s.Build.Dockerfile, s.Build.Args["SERVICE"])
		}
	}
}

// A variable that no program reads, or another one than this, would be set in vain.
func TestComposeSetsOnlyVariablesThatAreRead(t *testing.T) {
	t.Parallel()
	readers := settings(t)
	for name, s := range compose(t).Services {
		set := slices.Collect(maps.Keys(s.Environment))
		if slices.Contains(s.EnvFile, "deploy/compose/secrets/seal.env") {
			set = append(set, "ONEBELL_SEAL_KEY")
		}
		for _, variable := range set {
			if !slices.Contains(readers[variable], name) && !slices.Contains(readers[variable], "every program") {
				t.Errorf("%s: %s is read by %v", name, variable, readers[variable])
			}
		}
	}
}

var settingsLine = regexp.MustCompile("(?m)^\\| `(ONEBELL_[A-Z_]+)` \\|.*\\| ([^|]+) \\|$")

// settings is the table of settings, which is made from the code: for each variable the programs that read it.
func settings(t *testing.T) map[string][]string {
	t.Helper()
	readers := map[string][]string{}
	for _, m := range settingsLine.FindAllStringSubmatch(read(t, "services/onebell/SETTINGS.md"), -1) {
		readers[m[1]] = strings.Split(m[2], ", ")
	}
	if len(readers) == 0 {
		t.Fatal("services/onebell/SETTINGS.md has no table")
	}
	return readers
}

func TestNATSKeepsWhatItAcknowledged(t *testing.T) {
	t.Parallel()
	o, err := server.ProcessConfigFile(filepath.Join(root, "deploy/compose/nats.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if !o.JetStream || !o.SyncAlways || o.StoreDir != "/data" {
		t.Errorf("JetStream %v, sync always %v, stored in %q", o.JetStream, o.SyncAlways, o.StoreDir)
	}
	if o.MaxPayload != embed.MaxPayload {
		t.Errorf("max_payload %d, expected %d as in the embedded server", o.MaxPayload, embed.MaxPayload)
	}
}

// The files that the containers mount are read as the services read them, with secrets that the script makes.
func TestSecretsFitTheFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "secrets.sh")
	if err := os.WriteFile(script, []byte(read(t, "deploy/compose/secrets.sh")), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() string {
		out, err := exec.CommandContext(t.Context(), "bash", script).CombinedOutput()
		if err != nil {
			t.Fatalf("secrets.sh: %v\n%s", err, out)
		}
		return string(out)
	}
	run()
	if again := run(); again != "" {
		t.Errorf("the second time it made %s", again)
	}
	made := filepath.Join(dir, "secrets")
	for name, secret := range compose(t).Secrets {
		if _, err := os.Stat(filepath.Join(made, name)); err != nil || secret.File != "deploy/compose/secrets/"+name {
			t.Errorf("secret %s from %s: %v", name, secret.File, err)
		}
	}

	text := strings.ReplaceAll(read(t, "deploy/compose/config/pages.yaml"), "/run/secrets", made)
	file, err := pages.Parse([]byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	if shop := file.OfShop("wine-and-co"); len(shop) != 1 || shop[0].ID != "104200000000017" {
		t.Errorf("pages of the demo shop: %v", shop)
	}
	if _, err := rules.Parse([]byte(read(t, "deploy/compose/config/rules.yaml"))); err != nil {
		t.Error(err)
	}

	beyond := &net.TCPAddr{IP: net.IPv4zero, Port: 8082}
	d, err := door.Open(beyond, door.Settings{TokensFile: filepath.Join(made, "api_tokens")}, slog.New(slog.DiscardHandler), &admin.Readiness{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(made, "token_shop"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Admit("Bearer "+string(token), []door.Role{door.Publisher}); err != nil {
		t.Errorf("the shop's token: %v", err)
	}
}

func TestTheDockerfileKnowsEveryModule(t *testing.T) {
	t.Parallel()
	dockerfile := read(t, "deploy/docker/Dockerfile")
	modules, err := filepath.Glob(filepath.Join(root, "services/*/go.mod"))
	if err != nil || len(modules) == 0 {
		t.Fatalf("modules of services: %v, %v", modules, err)
	}
	for _, path := range modules {
		dir := "services/" + filepath.Base(filepath.Dir(path))
		if !strings.Contains(dockerfile, "COPY "+dir+"/go.mod "+dir+"/go.sum "+dir+"/\n") {
			t.Errorf("the Dockerfile does not copy the list of %s", dir)
		}
	}
	release := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, "go.work"))
	if !strings.Contains(dockerfile, "FROM golang:"+release[1]+" ") {
		t.Errorf("the Dockerfile builds with another Go than %s of go.work", release[1])
	}
}
