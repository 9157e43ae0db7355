package web

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/onebell/onebell/pkg/door"
	"github.com/onebell/onebell/pkg/fault"
)

// cookie holds the bearer token of a browser: browsers cannot send an Authorization header by themselves. It is the token
// itself, so that taking a token out of the file ends its sessions; scripts cannot read it, other sites cannot send it.
const cookie = "onebell_console"

// sessionSeconds is how long a browser keeps it: a working day.
const sessionSeconds = 12 * 60 * 60

var allowed = []door.Role{door.Operator}

// admit lets in who shows a token, in the Authorization header or in the cookie. People get the form to sign in.
func (s *Site) admit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		if c, err := r.Cookie(cookie); err == nil && header == "" {
			header = bearer(c.Value)
		}
		err := s.Door.Admit(header, allowed)
		if err == nil {
			next.ServeHTTP(w, r)
			return
		}
		problem := err.Error()
		if header == "" {
			problem = ""
		}
		s.refuse(w, r, err, problem)
	})
}

func (s *Site) refuse(w http.ResponseWriter, r *http.Request, err error, problem string) {
	code := http.StatusForbidden
	if fault.Of(err).Reason == door.Unauthenticated {
		code = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		http.Error(w, err.Error(), code)
		return
	}
	s.show(w, code, "signin", frame{Title: "Sign in", Body: problem})
}

func (s *Site) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	token := strings.TrimSpace(r.PostFormValue("token"))
	if err := s.Door.Admit("Bearer "+token, allowed); err != nil {
		s.refuse(w, r, err, err.Error())
		return
	}
	setCookie(w, r, base64.RawURLEncoding.EncodeToString([]byte(token)), sessionSeconds)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func (s *Site) signOut(w http.ResponseWriter, r *http.Request) {
	setCookie(w, r, "", -1)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

func setCookie(w http.ResponseWriter, r *http.Request, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: cookie, Value: value, Path: "/", MaxAge: maxAge, HttpOnly: true, SameSite: http.SameSiteStrictMode,
		// TLS ends at a proxy in front; without one the cookie must travel as the page does.
		Secure: r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https",
	})
}

func signedIn(r *http.Request) bool {
	_, err := r.Cookie(cookie)
	return err == nil
}

// bearer is the cookie as an Authorization header; empty when it is not ours.
func bearer(value string) string {
	token, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return ""
	}
	return "Bearer " + string(token)
}
