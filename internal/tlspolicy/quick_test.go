package tlspolicy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"testing"
)

func TestOnlyHandshakesWithFastSignaturesAreQuick(t *testing.T) {
	p384 := func(t testing.TB) crypto.Signer {
		key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	of := func(keys ...func(testing.TB) crypto.Signer) (m Material) {
		for _, key := range keys {
			m.Pairs = append(m.Pairs, issue(t, nil, key(t), names("db")).pair(t))
		}
		return m
	}
	withCA := of(ecdsaKey)
	withCA.CA = []byte("an authority")
	for name, c := range map[string]struct {
		m    Material
		want bool
	}{
		"P-256":                    {of(ecdsaKey), true},
		"Ed25519":                  {of(ed25519Key), true},
		"P-256 and Ed25519":        {of(ecdsaKey, ed25519Key), true},
		"RSA":                      {of(rsaKey(2048)), false},
		"P-256 and RSA":            {of(ecdsaKey, rsaKey(2048)), false},
		"P-384":                    {of(p384), false},
		"clients' certificates":    {withCA, false},
		"a key that can't be read": {Material{Pairs: []Pair{{}}}, false},
	} {
		if got := c.m.Quick(Options{}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if of(ecdsaKey).Quick(Options{Curves: []tls.CurveID{tls.CurveP256, tls.CurveP521}}) {
		t.Error("the curve P-521 is quick")
	}
}
