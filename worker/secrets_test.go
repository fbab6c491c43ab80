package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/auth"
	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/ipc"
)

// factors are those of the servers in these tests.
var factors = auth.Factors{Salt: "0123456789abcdef", Iterations: 4096}

// encodedKeys are a secret that is no password.
var encodedKeys = strings.Repeat("k", auth.KeysSize)

// toldSecret is the answer to a set-up that asks for a secret.
type toldSecret struct {
	secret string
	err    error
}

// ask lets the set-up of a user's backend ask for a secret, in a goroutine as in the worker.
func (r *rig) ask(ctx context.Context, user string, method ipc.LoginMethod) <-chan toldSecret {
	c := &credential{w: r.w, ctx: ctx, user: user, database: "d", exists: true}
	told := make(chan toldSecret, 1)
	go func() {
		var a toldSecret
		switch method {
		case ipc.LoginSCRAM:
			var keys auth.Keys
			keys, a.err = c.Keys(factors)
			a.secret = string(keys.Encode())
		case ipc.LoginMD5:
			a.secret, a.err = c.MD5()
		default:
			a.secret, a.err = c.Password()
		}
		told <- a
	}()
	return told
}

// waiting waits until n set-ups wait for the answer to one request.
func (r *rig) waiting(n int) {
	r.t.Helper()
	reached := func() (yes bool) {
		r.do(func() {
			for _, wait := range r.w.secrets.asked {
				yes = yes || len(wait.waiting) == n
			}
		})
		return yes
	}
	pgtest.WaitUntil(r.t, generous, fmt.Sprintf("%d waiting set-ups", n), reached)
}

func (r *rig) noSecretRequest() {
	r.t.Helper()
	r.do(func() { r.w.send(&ipc.Pong{ID: 1}) })
	for {
		switch m := expectAny(r).(type) {
		case *ipc.SecretRequest:
			r.t.Errorf("request %d for a secret", m.ID)
		case *ipc.Pong:
			return
		}
	}
}

func TestSetUpsShareOneRequestForASecret(t *testing.T) {
	for method, secret := range map[ipc.LoginMethod]string{ipc.LoginSCRAM: encodedKeys, ipc.LoginMD5: "a hash", ipc.LoginPassword: "a password"} {
		t.Run(method.String(), func(t *testing.T) {
			r := newRig(t, sessions())
			const many = 5
			var told []<-chan toldSecret
			for range many {
				told = append(told, r.ask(t.Context(), "u", method))
			}
			m := expect[*ipc.SecretRequest](r)
			if m.User != "u" || m.Database != "d" || m.Server != 0 || m.Question.Method != method {
				t.Errorf("the request is %+v", m)
			}
			r.waiting(many)
			r.send(&ipc.SecretAnswer{ID: m.ID, Secret: ipc.Secret(secret)})
			told = append(told, r.ask(t.Context(), "u", method)) // known already, or answered together with the others
			for _, ch := range told {
				if a := wait(t, ch, "a secret"); a.err != nil || a.secret != secret {
					t.Errorf("a secret of %d bytes, %v", len(a.secret), a.err)
				}
			}
			r.noSecretRequest()
		})
	}
}

// SCRAM keys are good for every server and database, a password or hash only for the one that asked for it.
func TestOnlyKeysServeOtherServersAndDatabases(t *testing.T) {
	for method, again := range map[ipc.LoginMethod]bool{ipc.LoginSCRAM: false, ipc.LoginMD5: true, ipc.LoginPassword: true} {
		t.Run(method.String(), func(t *testing.T) {
			r := newRig(t, sessions())
			first := r.ask(t.Context(), "u", method)
			r.send(&ipc.SecretAnswer{ID: expect[*ipc.SecretRequest](r).ID, Secret: ipc.Secret(encodedKeys)})
			wait(t, first, "a secret")
			c := &credential{w: r.w, ctx: t.Context(), server: 1, user: "u", database: "e", exists: true}
			q := ipc.Question{Method: method}
			if method == ipc.LoginSCRAM {
				q.Salt, q.Iterations = factors.Salt, factors.Iterations
			}
			told := make(chan toldSecret, 1)
			go func() { s, err := c.secret(q); told <- toldSecret{s, err} }()
			if again {
				r.send(&ipc.SecretAnswer{ID: expect[*ipc.SecretRequest](r).ID, Secret: "another"})
			}
			if a := wait(t, told, "a secret"); a.err != nil || (a.secret == "another") != again {
				t.Errorf("a secret of %d bytes, %v", len(a.secret), a.err)
			}
			r.noSecretRequest()
		})
	}
}

// A refusal isn't kept: the next set-up asks again.
func TestARefusedSecretIsAskedForAgain(t *testing.T) {
	r := newRig(t, sessions())
	first, second := r.ask(t.Context(), "u", ipc.LoginSCRAM), r.ask(t.Context(), "u", ipc.LoginSCRAM)
	m := expect[*ipc.SecretRequest](r)
	r.waiting(2)
	r.send(&ipc.SecretAnswer{ID: m.ID, Error: "the prober is gone"})
	for _, ch := range []<-chan toldSecret{first, second} {
		a := wait(t, ch, "a refusal")
		var se *secretError
		if !errors.As(a.err, &se) || !strings.Contains(a.err.Error(), "the prober is gone") || !transient(a.err) {
			t.Errorf("the set-up is told %v", a.err)
		}
	}
	third := r.ask(t.Context(), "u", ipc.LoginSCRAM)
	r.send(&ipc.SecretAnswer{ID: expect[*ipc.SecretRequest](r).ID, Secret: ipc.Secret(encodedKeys)})
	if a := wait(t, third, "a secret"); a.err != nil || a.secret != encodedKeys {
		t.Errorf("a secret of %d bytes, %v", len(a.secret), a.err)
	}
}

func TestKeysOfTheWrongLengthAreAnError(t *testing.T) {
	r := newRig(t, sessions())
	told := r.ask(t.Context(), "u", ipc.LoginSCRAM)
	r.send(&ipc.SecretAnswer{ID: expect[*ipc.SecretRequest](r).ID, Secret: "short"})
	if a := wait(t, told, "an error"); !errors.Is(a.err, errBadKeys) {
		t.Errorf("the set-up is told %v", a.err)
	}
}

func TestAnAnswerThatNobodyHasAskedForIsIgnored(t *testing.T) {
	r := newRig(t, sessions())
	told := r.ask(t.Context(), "u", ipc.LoginMD5)
	m := expect[*ipc.SecretRequest](r)
	r.send(&ipc.SecretAnswer{ID: m.ID + 1, Secret: "nobody's"})
	r.send(&ipc.SecretAnswer{ID: m.ID, Secret: "the first"})
	r.send(&ipc.SecretAnswer{ID: m.ID, Secret: "the second"})
	if a := wait(t, told, "a secret"); a.err != nil || a.secret != "the first" {
		t.Errorf("a secret of %d bytes, %v", len(a.secret), a.err)
	}
	r.do(func() {
		if n := len(r.w.secrets.known); n != 1 {
			t.Errorf("%d secrets are kept", n)
		}
		if n := len(r.w.secrets.asked) + len(r.w.secrets.asking); n != 0 {
			t.Errorf("%d requests are open", n)
		}
	})
}

func TestAWaitForASecretEndsWithItsSetUp(t *testing.T) {
	r := newRig(t, sessions())
	ctx, cancel := context.WithCancel(t.Context())
	told, other := r.ask(ctx, "u", ipc.LoginMD5), r.ask(t.Context(), "u", ipc.LoginMD5)
	m := expect[*ipc.SecretRequest](r)
	r.waiting(2)
	cancel()
	if a := wait(t, told, "the end of the wait"); !errors.Is(a.err, context.Canceled) {
		t.Errorf("the set-up is told %v", a.err)
	}
	r.send(&ipc.SecretAnswer{ID: m.ID, Secret: "a hash"})
	if a := wait(t, other, "a secret"); a.err != nil || a.secret != "a hash" {
		t.Errorf("the other set-up: a secret of %d bytes, %v", len(a.secret), a.err)
	}
}

func TestOpenRequestsForSecretsAreBounded(t *testing.T) {
	r := newRig(t, sessions())
	ask := func(i int) <-chan toldSecret { return r.ask(t.Context(), fmt.Sprint("user", i), ipc.LoginMD5) }
	var first *ipc.SecretRequest
	told := map[string]<-chan toldSecret{}
	for i := range ipc.MaxSecretRequests {
		told[fmt.Sprint("user", i)] = ask(i)
		if m := expect[*ipc.SecretRequest](r); first == nil {
			first = m
		}
	}
	if a := wait(t, ask(-1), "a refusal"); !errors.Is(a.err, errManySecrets) {
		t.Errorf("one more is told %v", a.err)
	}
	r.noSecretRequest()
	r.send(&ipc.SecretAnswer{ID: first.ID, Secret: "a hash"})
	wait(t, told[first.User], "a secret")
	delete(told, first.User)
	last := ask(-1)
	m := expect[*ipc.SecretRequest](r)
	r.send(&ipc.SecretAnswer{ID: m.ID, Secret: "a hash"})
	if a := wait(t, last, "a secret"); a.err != nil {
		t.Errorf("with a place free again it is told %v", a.err)
	}
	for id := first.ID + 1; id < m.ID; id++ {
		r.send(&ipc.SecretAnswer{ID: id, Error: "the end"})
	}
	for _, ch := range told {
		wait(t, ch, "the end")
	}
}

// A secret that is missing here says nothing about the server, so there must be no hint.
func TestAMissingSecretIsNoHintThatTheServerFails(t *testing.T) {
	r := newRig(t, sessions())
	r.do(func() {
		r.w.hintOf(0, 1, &secretError{errors.New("no prober")})
		r.w.hintOf(0, 1, &secretError{context.DeadlineExceeded})
		r.w.send(&ipc.Pong{ID: 1})
	})
	for {
		switch m := expectAny(r).(type) {
		case *ipc.Hint:
			t.Errorf("a hint of kind %d: %s", m.Kind, m.Text)
		case *ipc.Pong:
			return
		}
	}
}
