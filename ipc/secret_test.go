package ipc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

const password = "hunter2"

// secretForms returns what holds a secret and might be printed.
func secretForms() map[string]any {
	s := Secret(password)
	user := ConfigUser{Name: "u", Verifier: s}
	return map[string]any{
		"value": s, "pointer": &s, "slice": []Secret{s}, "map": map[string]Secret{"k": s},
		"struct": user, "pointer to struct": &user, "envelope": Envelope{Message: &user},
		"any": []any{s}, "map key": map[Secret]int{s: 1},
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	for name, v := range secretForms() {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10.3s"} {
			checkHidden(t, name+" "+verb, fmt.Sprintf(verb, v))
		}
		checkHidden(t, name+" Sprint", fmt.Sprint(v))
		checkHidden(t, name+" error", fmt.Errorf("send: %w (%v)", errors.New("x"), v).Error())
		if name == "map key" {
			continue // encoding/json writes keys of string kinds as they are; nothing of ours has one.
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		checkHidden(t, name+" JSON", string(b))
	}
}

// TestMessagesWithSecretsHideThem finds the secrets of every message, also of
// those that are written later.
func TestMessagesWithSecretsHideThem(t *testing.T) {
	found := 0
	for _, n := range numbers() {
		m := catalogue[n].make()
		if !plant(reflect.ValueOf(m).Elem()) {
			continue
		}
		found++
		for _, v := range []any{m, []Message{m}, Envelope{Message: m}, &Envelope{Message: m}, reflect.ValueOf(m).Elem().Interface()} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%t"} {
				checkHidden(t, fmt.Sprintf("%T of %s as %s", v, Name(n), verb), fmt.Sprintf(verb, v))
			}
		}
	}
	if found < 5 {
		t.Errorf("%d messages with secrets, want 5 or more", found)
	}
}

// plant sets every Secret of a struct and reports whether there is one.
func plant(v reflect.Value) bool {
	found := false
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.Type() == reflect.TypeFor[Secret]():
			f.SetString(password)
			found = true
		case f.Kind() == reflect.Struct:
			found = plant(f) || found
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			f.Set(reflect.MakeSlice(f.Type(), 1, 1))
			found = plant(f.Index(0)) || found
		}
	}
	return found
}

func TestSecretIsNeverLogged(t *testing.T) {
	var out bytes.Buffer
	opts := &slog.HandlerOptions{Level: LevelTrace}
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, opts), slog.NewJSONHandler(&out, opts)} {
		for name, v := range secretForms() {
			if name == "map key" {
				continue
			}
			out.Reset()
			slog.New(h).Info("message", "value", v, slog.Group("group", "value", v))
			if out.Len() == 0 {
				t.Fatal("nothing was logged")
			}
			checkHidden(t, fmt.Sprintf("%s in %T", name, h), out.String())
		}
	}
}

// TestTraceAndViolationsHideTheBody follows a secret over a link that traces.
func TestTraceAndViolationsHideTheBody(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: LevelTrace}))
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseSetup)
	a.log, b.log = log, log
	if err := a.Send(&ConfigUser{Verifier: password}); err != nil {
		t.Fatal(err)
	}
	env, err := b.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if got := env.Message.(*ConfigUser).Verifier.Reveal(); got != password {
		t.Errorf("the secret arrived as %q", got)
	}
	if n := strings.Count(out.String(), "ConfigUser"); n != 2 {
		t.Errorf("%d trace lines, want one for each end:\n%s", n, out.String())
	}
	checkHidden(t, "trace", out.String())

	c, raw := link(t, RoleWorker, RoleSupervisor, PhaseSetup)
	p := rawPacket(t, &ConfigUser{Name: "u", Verifier: password})
	for cut := 3; cut < len(p); cut++ {
		sendRaw(t, raw, p[:cut])
		_, err := c.Receive()
		checkHidden(t, "violation", fmt.Sprintf("%+v", err))
	}
}

func checkHidden(t *testing.T, what, text string) {
	t.Helper()
	if strings.Contains(text, password) || strings.Contains(strings.ToLower(text), fmt.Sprintf("%x", password)) {
		t.Errorf("%s shows the secret: %s", what, text)
	}
}
