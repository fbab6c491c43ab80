package auth

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestClientKeysAreBounded(t *testing.T) {
	keys := NewClientKeys(2)
	get := func(user, password string) *clientEntry {
		t.Helper()
		e, err := keys.entry(user, password)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	a := get("a", "1")
	get("b", "1")
	if get("a", "1") != a {
		t.Error("a was not kept")
	}
	get("c", "1") // drops b, which is older in use than a
	if get("a", "1") != a || keys.recent.Len() != 2 || len(keys.entries) != 2 {
		t.Errorf("%d entries", keys.recent.Len())
	}
	if get("a", "2") == a {
		t.Error("a changed password found the old keys")
	}
}

func TestClientKeysForgetAUserWithEverNewSalts(t *testing.T) {
	keys := NewClientKeys(1)
	e, err := keys.entry("u", "pw")
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxSalts {
		conv := e.client.WithNonceGenerator(func() string { return "n" }).NewConversation()
		if _, err := conv.Step(""); err != nil {
			t.Fatal(err)
		}
		if now, _ := keys.entry("u", "pw"); now != e {
			t.Fatalf("forgotten after %d salts", i)
		}
		if _, err := keys.answer(e, conv, fmt.Sprintf("r=nx,s=c2FsdA%02d,i=1", i)); err != nil {
			t.Fatal(err)
		}
	}
	if now, _ := keys.entry("u", "pw"); now == e {
		t.Errorf("still there after %d salts", maxSalts)
	}
}

func TestServersCantMakeUsComputeForEver(t *testing.T) {
	for _, first := range []string{
		"r=nx,s=c2FsdA==,i=2000001", "r=nx,s=c2FsdA==,i=0", "r=nx,s=c2FsdA==,i=-1", "r=nx,s=c2FsdA==,i=", "r=nx,s=c2FsdA==,i=99999999999999999999",
		"", "r=nx", "r=nx,s=c2FsdA==", "s=c2FsdA==,r=nx,i=1", "m=x,r=nx,s=c2FsdA==,i=1", "r=other,s=c2FsdA==,i=1", "r=nx,s=!,i=1",
	} {
		var keys *ClientKeys
		e, err := keys.entry("u", "pw")
		if err != nil {
			t.Fatal(err)
		}
		conv := e.client.WithNonceGenerator(func() string { return "n" }).NewConversation()
		if _, err := conv.Step(""); err != nil {
			t.Fatal(err)
		}
		_, err = keys.answer(e, conv, first)
		var protocol *ProtocolError
		if !errors.As(err, &protocol) {
			t.Errorf("%q: %v, want a ProtocolError", first, err)
		}
	}
}

func TestASecondLoginDerivesNothing(t *testing.T) {
	keys := NewClientKeys(1)
	login := func() time.Duration {
		e, err := keys.entry("u", "pw")
		if err != nil {
			t.Fatal(err)
		}
		conv := e.client.WithNonceGenerator(func() string { return "n" }).NewConversation()
		if _, err := conv.Step(""); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := keys.answer(e, conv, "r=nx,s=c2FsdA==,i=1000000"); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	// A million rounds take far longer than any disturbance that a factor of four wouldn't cover.
	if first, second := login(), login(); second > first/4 {
		t.Errorf("first login %v, second %v", first, second)
	}
}
