package token_test

import (
	"fmt"
	"testing"

	tokenv1 "github.com/onebell/onebell/proto/onebell/token/v1"
	"github.com/onebell/onebell/proto/topology"
)

// Whoever stops a person is told how many permissions that concerned, also when the stream's reader was faster.
func TestAStopSaysHowManyPermissionsItRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start()
	for i := range 30 {
		psid := fmt.Sprint("p", i)
		item := &tokenv1.RecordItem{PageId: page, Psid: psid, Kind: tokenv1.Kind_KIND_OTN, Token: "token of " + psid, Topic: "stock:A"}
		if _, err := w.client.Record(t.Context(), &tokenv1.RecordRequest{Items: []*tokenv1.RecordItem{item}}); err != nil {
			t.Fatal(err)
		}
		for _, resume := range []bool{false, true} {
			answer, err := w.client.StopPerson(t.Context(), &tokenv1.StopPersonRequest{PageId: page, Psid: psid, Resume: resume})
			if err != nil || answer.GetPermissions() != 1 {
				t.Fatalf("resume %v: %v, %v: want 1 permission", resume, answer, err)
			}
		}
	}
}

// The last message of a stream was erased while nobody served.
func TestAnIndexIsCaughtUpWhenTheEndOfAStreamWasErased(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.optin("p1", "token-1", "stock:A")
	w.optin("p2", "token-2", "stock:A")
	w.start()()
	s, err := w.js.Stream(t.Context(), topology.Optins)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.SecureDeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if err := w.rdb.HSet(t.Context(), "{onebell}:seen", topology.Optins, 1).Err(); err != nil {
		t.Fatal(err)
	}
	w.start()
}
