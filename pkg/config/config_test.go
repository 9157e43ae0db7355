package config_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/onebell/onebell/pkg/config"
)

type Inner struct {
	URL config.HTTPURL `env:"T_URL" envDefault:"http://x.example/" help:"where"`
}

type settings struct {
	Inner
	Addr    config.Addr   `env:"T_ADDR" envDefault:"127.0.0.1:0" help:"listens"`
	Timeout time.Duration `env:"T_TIMEOUT" envDefault:"10s"`
	Key     config.Addr   `env:"T_KEY" secret:"yes"`
	N       int           `env:"T_N"`
}

func TestLoad(t *testing.T) {
	t.Parallel()
	got, err := config.Load[settings](map[string]string{"T_ADDR": ":80", "T_KEY": "h:1"})
	if err != nil || got.Addr != ":80" || got.Timeout != 10*time.Second || got.URL != "http://x.example" {
		t.Errorf("Load = %+v, %v", got, err)
	}
}

func TestLoadTellsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := config.Load[settings](map[string]string{"T_ADDR": "nonsense", "T_TIMEOUT": "soon", "T_KEY": "hunter2", "T_URL": "ftp://x", "T_N": "x"})
	if err == nil {
		t.Fatal("want an error")
	}
	for _, want := range []string{`T_ADDR="nonsense": expected host:port`, "T_TIMEOUT", "soon", `T_KEY="***"`, `T_URL="ftp://x"`, "T_N"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows a secret:\n%v", err)
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	table := config.Table[settings]()
	if len(table) != 5 || table[0] != (config.Setting{Name: "T_URL", Default: "http://x.example/", Help: "where"}) {
		t.Errorf("Table = %+v", table)
	}
}

// checked refuses what is missing, after everything was read.
type checked struct {
	Addr config.Addr    `env:"ONEBELL_X_ADDR"`
	Key  config.HTTPURL `env:"ONEBELL_X_KEY"`
}

func (c checked) Validate() (problems []error) {
	if c.Key == "" {
		problems = append(problems, errors.New("ONEBELL_X_KEY is not set"))
	}
	return problems
}

func TestWhatIsMissingIsToldTogetherWithWhatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := config.Load[checked](map[string]string{"ONEBELL_X_ADDR": "nowhere"})
	if err == nil || !strings.Contains(err.Error(), "ONEBELL_X_ADDR") || !strings.Contains(err.Error(), "ONEBELL_X_KEY is not set") {
		t.Errorf("err = %v, want both", err)
	}
	_, err = config.Load[checked](map[string]string{"ONEBELL_X_KEY": "no address"})
	if err == nil || strings.Count(err.Error(), "ONEBELL_X_KEY") != 1 {
		t.Errorf("err = %v, want it once", err)
	}
}
