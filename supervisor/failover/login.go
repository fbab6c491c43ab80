package failover

import (
	"cmp"
	"slices"
	"strings"
)

// tooManyConnections passes by itself, unlike other reasons why a probe can't log in.
const tooManyConnections = "53300"

// seenByLogin marks a role that a client's login has shown, because probes can't log in.
const seenByLogin = "login"

func (m *Machine) cannotLogIn(s *server) {
	if s.code == tooManyConnections {
		return
	}
	s.loginCode = s.code
	attrs := []Attr{{"server", s.cfg.Name}, {"code", s.code}, {"hint", m.loginHint(s, s.code)}}
	if m.cfg.ProbeUser != "" {
		attrs = slices.Insert(attrs, 1, Attr{"user", m.cfg.ProbeUser})
	}
	m.logOnce("login "+s.cfg.Name, Warn, "a probe can't log in, so the server's role comes from clients' logins", attrs...)
}

// loginHint returns what to do about a code with which a server refused the probes' user, "" if the code says nothing
// that helps.
func (m *Machine) loginHint(s *server, code string) string {
	switch {
	case code == "tls" && s.words != "":
		return s.words + "; look at tls in the section of " + s.cfg.Name
	case code == "tls":
		return "look at tls in the section of " + s.cfg.Name
	case code == "nologin" && s.words != "":
		return s.words + "; look at require_auth in the section of " + s.cfg.Name
	}
	user := m.cfg.ProbeUser
	if user == "" {
		return m.cfg.CredentialHint
	}
	switch code {
	case "nologin":
		return m.cfg.CredentialHint
	case "28P01": // a server with SCRAM says the same of a role that doesn't exist
		return "CREATE ROLE " + user + " LOGIN PASSWORD '...', and the same password here: " + m.cfg.CredentialHint
	case "28000":
		return "let " + user + " in from here in the server's pg_hba.conf, and ALTER ROLE " + user + " LOGIN"
	case "3D000":
		return "CREATE DATABASE " + user
	case "42501":
		return "GRANT CONNECT ON DATABASE " + user + " TO " + user
	}
	return ""
}

// withoutLogin lists the servers that probes can't log in to, with the reasons.
func (m *Machine) withoutLogin() string {
	var names, hints []string
	for _, s := range m.each() {
		if (s.last != SawAlive || s.code == tooManyConnections) && s.code != seenByLogin {
			continue
		}
		name := s.cfg.Name
		if m.cfg.ProbeUser != "" && s.loginCode != "" {
			name += " (" + s.loginCode + ")"
		}
		names = append(names, name)
		if hint := m.loginHint(s, s.loginCode); hint != "" && !slices.Contains(hints, hint) {
			hints = append(hints, hint)
		}
	}
	if len(names) == 0 {
		return ""
	}
	text := "probes can't log in at "
	if m.cfg.ProbeUser != "" {
		text = "probes can't log in as " + m.cfg.ProbeUser + ", which health_check_user names, at "
	}
	text += strings.Join(names, ", ") + ": roles come from clients' logins, positions and receivers are unknown"
	for _, hint := range hints {
		text += "; " + hint
	}
	return text
}

// monitorHint returns what lets probes see whether a standby receives.
func (m *Machine) monitorHint() string {
	return "GRANT pg_monitor TO " + cmp.Or(m.cfg.ProbeUser, "the probe's user")
}
