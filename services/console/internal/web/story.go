package web

import (
	"net/http"
	"net/url"
	"strings"

	alertv1 "github.com/onebell/onebell/proto/onebell/alert/v1"
	"github.com/onebell/onebell/proto/pages"
)

// story is the page that tells what happened.
type story struct {
	Pages                  []pages.Page
	Page                   string
	PSID, Permission, Send string
	Asked                  bool
	Problem                string
	Steps                  []*alertv1.Step
}

// explain tells the story of a person, a permission or a send: one of psid, permission, send.
func (s *Site) explain(w http.ResponseWriter, r *http.Request) {
	req, st := subject(r.URL.Query())
	st.Pages = s.Pages().Pages
	code := http.StatusOK
	switch {
	case st.Problem != "":
		code = http.StatusBadRequest
	case st.Asked:
		steps, err := s.Services.Story(r.Context(), req)
		if err != nil {
			code, st.Problem = http.StatusServiceUnavailable, err.Error()
		}
		st.Steps = steps
	}
	s.show(w, code, "story", frame{Title: "Story", SignedIn: signedIn(r), Body: st})
}

// subject reads whose story is asked for; without any of the three, nothing is asked yet.
func subject(q url.Values) (*alertv1.ExplainRequest, story) {
	get := func(name string) string { return strings.TrimSpace(q.Get(name)) }
	st := story{Page: get("page"), PSID: get("psid"), Permission: get("permission"), Send: get("send")}
	req := &alertv1.ExplainRequest{PageId: st.Page}
	given := 0
	if st.PSID != "" {
		req.Subject = &alertv1.ExplainRequest_Psid{Psid: st.PSID}
		given++
	}
	if st.Permission != "" {
		req.Subject = &alertv1.ExplainRequest_PermissionId{PermissionId: st.Permission}
		given++
	}
	if st.Send != "" {
		req.Subject = &alertv1.ExplainRequest_SendId{SendId: st.Send}
		given++
	}
	switch {
	case given > 1:
		st.Problem = "Fill in one of person, permission and send: each has a story of its own."
	case given == 1 && st.Page == "":
		st.Problem = "Say on which page: ids of people belong to one page."
	}
	st.Asked = given == 1 && st.Page != ""
	return req, st
}
