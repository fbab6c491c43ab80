package auth

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

// TestMethodThatIsNotAllowedGetsNoAnswer has a server ask for each method, and allows it, all of them or the others.
func TestMethodThatIsNotAllowedGetsNoAnswer(t *testing.T) {
	asks := map[Method][]byte{
		Trust: ok, Password: cleartext, MD5: pgwire.AppendAuthenticationMD5(nil, [4]byte{}), SCRAM: pgwire.AppendAuthenticationSASL(nil, mechSCRAM),
	}
	for asked, question := range asks {
		others := Methods{}
		for m := range asks {
			if m != asked {
				others = append(others, m)
			}
		}
		for name, tc := range map[string]struct {
			methods Methods
			refused bool
		}{"all": {nil, false}, "it": {Methods{asked}, false}, "others": {others, true}} {
			for way, do := range map[string]func(rw io.ReadWriter) (Method, error){
				"login": func(rw io.ReadWriter) (Method, error) {
					return Login(rw, Plain{User: "alice", Secret: "pw"}, LoginOptions{Allowed: tc.methods})
				},
				"pass through": func(rw io.ReadWriter) (m Method, err error) {
					_, _ = together(t, func(client io.ReadWriter) error {
						m, err = PassThrough(client, rw, tc.methods)
						return err
					}, func(rw io.ReadWriter) error {
						_, err := Login(rw, Plain{User: "alice", Secret: "pw"}, LoginOptions{})
						return err
					})
					return m, err
				},
			} {
				answered := false
				var got error
				_, _ = together(t, func(rw io.ReadWriter) error {
					if _, err := rw.Write(question); err != nil {
						return err
					}
					_, _, err := pgwire.ReadMessage(rw, 1000)
					answered = err == nil
					return nil
				}, func(rw io.ReadWriter) (err error) {
					var m Method
					if m, err = do(rw); m != asked {
						t.Errorf("%s: asked for %q, got %q", way, asked, m)
					}
					got = err
					return err
				})
				var refused *MethodError
				if errors.As(got, &refused) != tc.refused || answered && tc.refused || !answered && !tc.refused && asked != Trust {
					t.Errorf("%s, %s asked for, %s allowed: %v, answered: %v", way, asked, name, got, answered)
				}
			}
		}
	}
}

func TestMethodThatIsNotAllowedIsNamed(t *testing.T) {
	m := NewMethods([]string{"scram-sha-256", "none"})
	for asked, want := range map[Method]string{
		Password: "server asks for password, and require_auth allows only scram-sha-256, none", Trust: "<nil>", SCRAM: "<nil>",
	} {
		if got := fmt.Sprint(m.Check(asked)); got != want {
			t.Errorf("%s: %s", asked, got)
		}
	}
	if got := (Methods{SCRAM}).Check(Trust).Error(); got != "server asks for no password, and require_auth allows only scram-sha-256" {
		t.Error(got)
	}
}
