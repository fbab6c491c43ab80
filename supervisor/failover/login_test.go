package failover

import "testing"

func TestHintOfAMethodThatIsNotAllowedNamesTheKey(t *testing.T) {
	m := &Machine{cfg: Config{ProbeUser: "monitor", CredentialHint: "pgagroal-admin user edit"}}
	s := &server{cfg: ServerConfig{Name: "n1"}, words: "server asks for md5, and require_auth allows only none"}
	if got := m.loginHint(s, "nologin"); got != s.words+"; look at require_auth in the section of n1" {
		t.Error(got)
	}
	s.words = ""
	if got := m.loginHint(s, "nologin"); got != "pgagroal-admin user edit" {
		t.Error(got)
	}
}
