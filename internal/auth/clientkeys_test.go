package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/internal/pgwire"
)

func TestClientKeysAreBounded(t *testing.T) {
	keys := NewClientKeys(2)
	get := func(user, password string) *clientEntry { return keys.entry(clientID{user, password}) }
	a := get("a", "1")
	get("b", "1")
	if get("a", "1") != a {
		t.Error("a was not kept")
	}
	get("c", "1") // drops b, which was used before a
	if get("a", "1") != a || keys.recent.Len() != 2 || len(keys.entries) != 2 {
		t.Errorf("%d entries", keys.recent.Len())
	}
	if get("a", "2") == a {
		t.Error("a changed password found the old keys")
	}
}

func TestClientKeysOfAUserWithEverNewSaltsAreBounded(t *testing.T) {
	keys := NewClientKeys(1)
	for i := range 3 * maxSalts {
		f := Factors{Salt: fmt.Sprint("salt", i), Iterations: 1}
		got, err := keys.Derive("u", "pw", f)
		want, _ := DeriveKeys("pw", f)
		if err != nil || got != want {
			t.Fatalf("wrong keys for salt %d: %v", i, err)
		}
		if n := len(keys.entry(clientID{"u", "pw"}).keys); n > maxSalts {
			t.Fatalf("keys of %d salts are kept", n)
		}
	}
}

func TestServersCantMakeUsComputeForEver(t *testing.T) {
	for _, first := range []string{
		"r=nx,s=c2FsdA==,i=2000001", "r=nx,s=c2FsdA==,i=0", "r=nx,s=c2FsdA==,i=-1", "r=nx,s=c2FsdA==,i=", "r=nx,s=c2FsdA==,i=99999999999999999999",
		"", "r=nx", "r=nx,s=c2FsdA==", "s=c2FsdA==,r=nx,i=1", "m=x,r=nx,s=c2FsdA==,i=1", "r=other,s=c2FsdA==,i=1", "r=nx,s=!,i=1",
		"r=n,s=c2FsdA==,i=1", "r=nx,s=,i=1", "r=nx,s=" + strings.Repeat("AAAA", MaxSalt) + ",i=1",
	} {
		_, _, err := (&scramClient{nonce: "n"}).challenge(first)
		var protocol *pgwire.Refused
		if !errors.As(err, &protocol) {
			t.Errorf("%q: %v, want a refusal", first, err)
		}
	}
	if _, _, err := (&scramClient{nonce: "n"}).challenge("r=nx,s=c2FsdA==,i=4096"); err != nil {
		t.Error(err)
	}
}

func TestASecondLoginDerivesNothing(t *testing.T) {
	keys, f := NewClientKeys(1), Factors{Salt: "salt", Iterations: 1}
	if _, err := keys.Derive("u", "pw", f); err != nil {
		t.Fatal(err)
	}
	// No derivation gives these keys, so they can only come from the cache.
	marked := Keys{client: [32]byte{1}, server: [32]byte{2}}
	keys.entry(clientID{"u", "pw"}).keys[f] = marked
	if got, err := keys.Derive("u", "pw", f); err != nil || got != marked {
		t.Errorf("the second login derived keys again, or failed: %v", err)
	}
}

func TestKeysSurviveTheirEncoding(t *testing.T) {
	want, err := DeriveKeys("pw", Factors{Salt: "salt", Iterations: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := DecodeKeys(want.Encode()); !ok || got != want {
		t.Errorf("ok %v", ok)
	}
	if _, ok := DecodeKeys(want.Encode()[1:]); ok {
		t.Error("keys of the wrong length were taken")
	}
	if text := fmt.Sprintf("%v %+v %#v", want, want, want); strings.Count(text, "[keys]") != 3 {
		t.Errorf("keys are printed as %s", text)
	}
}
