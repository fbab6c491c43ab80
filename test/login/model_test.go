package login

import (
	"fmt"
	"strings"
)

// legs are how one pool speaks to its clients and to its server.
type legs struct {
	pipeline, loop string
	client         string // tls of the main section
	server         string // tls of the server's section
	bind           bool   // channel_binding = require
}

func (l legs) String() string {
	name := fmt.Sprintf("%s/%s/clients %s/server %s", l.pipeline, l.loop, l.client, l.server)
	if l.bind {
		name += " bound"
	}
	return name
}

// Credentials of an attempt.
const (
	right = "right"
	wrong = "wrong" // the client's
	stale = "stale" // what pgagroal knows of the user, and shows the server
)

// attempt is one login. method is how pgagroal's rules want the client to prove itself, or passed for a user of whom
// pgagroal doesn't know the password; "bound" after it says that the client requires channel binding. The name of the
// database is the server's method.
type attempt struct {
	method, database string
	bound            bool
	encrypted        bool
	credential       string
}

func (a attempt) String() string {
	words := []string{a.method}
	if a.bound {
		words = append(words, "bound")
	}
	if a.encrypted {
		words = append(words, "by TLS")
	}
	return fmt.Sprintf("%s to %s, %s", strings.Join(words, " "), a.database, a.credential)
}

// user is the role of an attempt: the rules of pgagroal tell them apart by the first part. The server needs an md5 hash
// for md5, and can't use one for SCRAM.
func (a attempt) user() string {
	name := a.method
	if a.credential == stale {
		name = stale
	}
	if a.database == "md5" {
		name += "_md5"
	}
	return name
}

// verdict is the outcome of an attempt: what the client was asked for on the way, and the error, or how the server sees
// the session.
type verdict struct {
	asked string
	code  string // SQLSTATE; "client" if the client gives up
	text  string
	ssl   string // t or f
}

// expect is the model of a login. Each step may end it.
func expect(l legs, a attempt) verdict {
	steps := []func(legs, attempt) (verdict, bool){expectEncryption, expectRule, expectProof, expectServer}
	var asked string
	for _, step := range steps {
		v, ends := step(l, a)
		if v.asked != "" {
			asked = v.asked
		}
		if ends {
			v.asked = asked
			return v
		}
	}
	ssl := "t"
	if l.server == "off" {
		ssl = "f"
	}
	return verdict{asked: asked, ssl: ssl}
}

// expectEncryption: does the client's leg accept TLS, or clear text?
func expectEncryption(l legs, a attempt) (verdict, bool) {
	switch {
	case a.encrypted && l.client == "off":
		return verdict{code: "client", text: `server answers "N" to SSLRequest`}, true
	case !a.encrypted && l.client == "require":
		return verdict{code: "28000", text: "the connection must be encrypted"}, true
	}
	return verdict{}, false
}

// expectRule: the rules for cert are for TLS only.
func expectRule(_ legs, a attempt) (verdict, bool) {
	if a.method == "cert" && !a.encrypted {
		return verdict{code: "28000", text: fmt.Sprintf(`no pgagroal_hba.conf entry for host "127.0.0.1", user "%s", database "%s"`, a.user(), a.database)}, true
	}
	return verdict{}, false
}

// expectProof: what pgagroal itself asks of a client that it knows.
func expectProof(_ legs, a attempt) (verdict, bool) {
	fails := verdict{code: "28P01", text: fmt.Sprintf(`password authentication failed for user "%s"`, a.user())}
	switch a.method {
	case "passed", "trust":
		return verdict{}, false
	case "cert":
		return verdict{code: "28000", text: fmt.Sprintf(`certificate authentication failed for user "%s"`, a.user())}, a.credential == wrong
	case "password":
		fails.asked = "password"
	default: // md5 asks for SCRAM too, since pgagroal has no hashes of md5
		fails.asked = "SCRAM-SHA-256"
		if a.encrypted {
			fails.asked = "SCRAM-SHA-256-PLUS,SCRAM-SHA-256"
		}
	}
	if a.bound && !a.encrypted {
		fails.code, fails.text = "client", "the server offers no channel binding"
		return fails, true
	}
	return fails, a.credential == wrong
}

// expectServer: what the server asks, of pgagroal or through it of the client.
func expectServer(l legs, a attempt) (verdict, bool) {
	passed := a.method == "passed"
	unbound := verdict{
		code: "28000",
		text: fmt.Sprintf(`unsupported security model for user "%s": channel binding is required, and this login can't be bound`, a.user()),
	}
	method := map[string]string{"password": "password", "md5": "md5", "scram": "SCRAM-SHA-256"}[a.database] // empty: no password
	switch {
	case l.bind && passed:
		return unbound, true
	case a.database == "cert" && l.server == "off":
		return verdict{code: "28000", text: fmt.Sprintf(`no pg_hba.conf entry for host "127.0.0.1", user "%s", database "cert", no encryption`, a.user())}, true
	case a.database == "cert" && a.credential == stale:
		return verdict{code: "28000", text: fmt.Sprintf(`certificate authentication failed for user "%s"`, a.user())}, true
	case l.bind && a.database != "scram": // no password is shown, and no session accepted
		return unbound, true
	}
	var v verdict
	if passed {
		v.asked = method
	}
	switch {
	case passed && a.bound: // the client's binding would be to pgagroal, and the server's to pgagroal too
		v.code, v.text = "client", "the server offers no channel binding"
		return v, true
	case method != "" && (a.credential == stale || passed && a.credential == wrong):
		v.code, v.text = "28P01", fmt.Sprintf(`password authentication failed for user "%s"`, a.user())
		return v, true
	}
	return v, false
}
