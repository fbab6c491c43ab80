package health

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestPasswordsAreNeverPrinted(t *testing.T) {
	var out strings.Builder
	target := Target{Address: "127.0.0.1:1", Logins: []Login{bob}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		_, _ = fmt.Fprintf(&out, format+format+format+"\n", bob, &bob, target)
	}
	for _, v := range []any{bob, target} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "login", bob, "target", target)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "login", bob, "target", target)
	if strings.Contains(out.String(), bob.Password) {
		t.Errorf("the password is in:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "bob@db") {
		t.Errorf("the user isn't in:\n%s", out.String())
	}
}
