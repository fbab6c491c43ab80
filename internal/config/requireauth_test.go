package config

import (
	"slices"
	"strings"
	"testing"
)

func TestRequireAuthIsReadAsLibpqReadsIt(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "",
		"scram-sha-256":           "scram-sha-256",
		"md5,scram-sha-256":       "md5 scram-sha-256",
		"none , scram-sha-256":    "none scram-sha-256",
		"!password":               "md5 scram-sha-256 none",
		"!password,!md5":          "scram-sha-256 none",
		"!password, !md5, !none ": "scram-sha-256",
	} {
		s := Server{RequireAuth: text}
		if got := s.AuthMethods(); strings.Join(got, " ") != want || want == "" && got != nil {
			t.Errorf("%q: %q", text, got)
		}
	}
	for text, want := range map[string]string{
		"scram":                               `"scram" is not one of password, md5, scram-sha-256, none`,
		"password,":                           `"" is not one of`,
		"gss":                                 `"gss" is not one of`,
		"!password,md5":                       `"!password" and "md5" can't stand together`,
		"md5,!password":                       `"md5" and "!password" can't stand together`,
		"md5,md5":                             `"md5" is there twice`,
		"!password,!md5,!scram-sha-256,!none": "nothing is left",
	} {
		errs := checked(t, selfEnv(), func(c *Config) { c.Servers[1].RequireAuth = text })
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), "[b]: require_auth: "+want) {
			t.Errorf("%q: %v", text, errs)
		}
	}
	errs := checked(t, selfEnv(), func(c *Config) {
		c.Servers[1].RequireAuth, c.Servers[1].TLS, c.Servers[1].ChannelBinding = "password", TLSRequire, "require"
	})
	if !slices.ContainsFunc(errs, func(err error) bool {
		return strings.Contains(err.Error(), "channel_binding = require needs scram-sha-256")
	}) {
		t.Error(errs)
	}
}
