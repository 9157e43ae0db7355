package pages_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onebell/onebell/proto/pages"
)

func env(name string) (string, bool) {
	value, ok := map[string]string{"PAGE_TOKEN": "EAA-secret", "SECRET": "s1", "EMPTY": ""}[name]
	return value, ok
}

func TestParse(t *testing.T) {
	t.Parallel()
	verify := filepath.Join(t.TempDir(), "verify")
	if err := os.WriteFile(verify, []byte("from-a-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := pages.Parse([]byte(`
pages:
  - id: "1"
    shop: wine
    access_token: ${PAGE_TOKEN}
    app_secrets: ["${SECRET}", "${EMPTY}"]
    verify_token: file:`+verify+`
  - {id: "2", access_token: t, app_secrets: [s1, s2]}
  - {id: "3", access_token: t, app_secrets: [s3]}
`), env)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := f.Page("1")
	if !ok || p.AccessToken.Reveal() != "EAA-secret" || len(p.AppSecrets) != 1 || p.VerifyToken.Reveal() != "from-a-file" {
		t.Errorf("page 1 = %+v (%v)", p, ok)
	}
	if p.SendsPerSecond != 30 || p.MediaPerSecond != 8 || p.Timezone != "UTC" || p.Locale != "en_US" {
		t.Errorf("defaults of page 1 = %+v", p)
	}
	if shown := fmt.Sprintf("%v %+v %#v", p, p, p); strings.Contains(shown, "EAA-secret") {
		t.Errorf("a secret is shown: %s", shown)
	}
	if got := f.OfShop("default"); len(got) != 2 {
		t.Errorf("OfShop(default) = %d pages, want 2", len(got))
	}
	if got := f.SameApp("1"); len(got) != 2 || got[1].ID != "2" {
		t.Errorf("SameApp(1) = %v", got)
	}
}

func TestParseNamesEveryProblem(t *testing.T) {
	t.Parallel()
	_, err := pages.Parse([]byte(`
pages:
  - {id: "1", access_token: "${NOPE}", app_secrets: [s], timezone: Mars/Base, currency: euro, sends_per_second: 900, quiet_hours: late}
  - {access_token: t, app_secrets: ["${EMPTY}"]}
  - {id: "1", access_token: t, app_secrets: [s]}
`), env)
	if err == nil {
		t.Fatal("want an error")
	}
	for _, want := range []string{"access_token: the environment variable NOPE", "timezone", "currency", "sends_per_second", "quiet_hours", "pages[1].id: missing", "pages[1].app_secrets", "stands twice"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if _, err := pages.Parse([]byte("pages:\n  - id: \"1\"\n    acess_token: t\n"), env); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("a misspelt field: %v, want its line", err)
	}
}

func TestAFileWithoutContentIsToldWhatIsExpected(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " \n", "# pages to come\n"} {
		_, err := pages.Parse([]byte(text), env)
		if err == nil || !strings.HasPrefix(err.Error(), "pages.yaml: nothing in it") || !strings.Contains(err.Error(), "access_token: ${PAGE_TOKEN}") {
			t.Errorf("%q: %v, want the file and an example", text, err)
			continue
		}
		_, example, _ := strings.Cut(strings.ReplaceAll(err.Error(), "${APP_SECRET}", "${SECRET}"), "like\n")
		if f, err := pages.Parse([]byte(example), env); err != nil || len(f.Pages) != 1 {
			t.Errorf("the example: %v", err)
		}
	}
	if f, err := pages.Parse([]byte("pages: []\n"), env); err != nil || len(f.Pages) != 0 {
		t.Errorf("no pages yet: %v, %v", f, err)
	}
}
