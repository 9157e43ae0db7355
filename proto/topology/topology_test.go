package topology_test

import (
	"strings"
	"testing"

	"github.com/onebell/onebell/proto/topology"
)

// Every subject that the functions make belongs to exactly one stream, and every stream has a writer and a reader.
func TestEverySubjectHasItsStreamWriterAndReader(t *testing.T) {
	t.Parallel()
	made := map[string]string{
		topology.OptinSubject("p", "1"):                   topology.Optins,
		topology.OptinSubject("p", ""):                    topology.Optins,
		topology.PersonSubject("p", "1"):                  topology.People,
		topology.PageSubject("p"):                         topology.People,
		topology.EventSubject("p", "1", "echo"):           topology.Events,
		topology.InventorySubject("stock", "a.b c"):       topology.Inventory,
		topology.WaveSubject("p"):                         topology.Waves,
		topology.SendSubject("p", topology.Urgent):        topology.Sends,
		topology.SendSubject("p", topology.Normal):        topology.Sends,
		topology.OutcomeSubject("p", "3f", "sent"):        topology.Outcomes,
		topology.TriesSubject("p"):                        topology.Tries,
		topology.DeadWebhooks:                             topology.Dead,
		topology.DeadSubject(topology.Optins):             topology.Dead,
		topology.DeadSubject(topology.Events):             topology.Dead,
		topology.DeadSubject(topology.Sends):              topology.Dead,
		topology.EventSubject("a.b*c>d e", "1", "un.own"): topology.Events,
	}
	filled := map[string]bool{}
	for subject, want := range made {
		var owners []string
		for _, s := range topology.Table {
			for _, pattern := range s.Subjects {
				if matches(pattern, subject) {
					owners = append(owners, s.Name)
				}
			}
		}
		if len(owners) != 1 || owners[0] != want {
			t.Errorf("%s belongs to %v, want [%s]", subject, owners, want)
		}
		filled[want] = true
	}
	for _, s := range topology.Table {
		if !filled[s.Name] {
			t.Errorf("no function makes a subject of %s", s.Name)
		}
		if len(s.Writers) == 0 || len(s.Readers) == 0 {
			t.Errorf("%s lacks a writer or a reader", s.Name)
		}
	}
}

func TestFactsAboutAPageAreToldFromThoseAboutPeople(t *testing.T) {
	t.Parallel()
	if !topology.IsPageSubject(topology.PageSubject("p")) || topology.IsPageSubject(topology.PersonSubject("p", "1")) {
		t.Error("a fact about a page is taken for one about a person, or the other way round")
	}
}

func TestProductKeysNeverMeet(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, pair := range [][2]string{{"a", "b"}, {"a.b", ""}, {"a", "b.c"}, {"a.b", "c"}, {"a", "=2E"}, {"a", "."}, {"ü", "日本"}, {"a", " "}} {
		key := topology.ProductKey(pair[0], pair[1])
		if other, ok := seen[key]; ok {
			t.Errorf("%v and %s share %s", pair, other, key)
		}
		seen[key] = pair[0] + "|" + pair[1]
	}
}

func matches(pattern, subject string) bool {
	p, s := strings.Split(pattern, "."), strings.Split(subject, ".")
	for i := range p {
		if p[i] == ">" {
			return len(s) > i
		}
		if i >= len(s) || p[i] != "*" && p[i] != s[i] {
			return false
		}
	}
	return len(p) == len(s)
}
