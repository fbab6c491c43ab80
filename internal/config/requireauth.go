package config

import (
	"fmt"
	"slices"
	"strings"
)

const scramMethod = "scram-sha-256"

// authMethods are the words of require_auth. none stands for a server that asks for nothing.
var authMethods = [...]string{"password", methodMD5, scramMethod, "none"}

// AuthMethods returns the words of require_auth that the server may ask for, nil for all. Check has refused what isn't a
// list of these words.
func (s *Server) AuthMethods() []string {
	methods, _ := parseRequireAuth(s.RequireAuth)
	return methods
}

// parseRequireAuth returns the methods that a list allows, nil for all, or what is wrong with the list. As in libpq all
// words are negated, or none is.
func parseRequireAuth(text string) (allowed []string, wrong string) {
	if strings.TrimSpace(text) == "" {
		return nil, ""
	}
	var named []string
	list := commaList(text)
	not := strings.HasPrefix(list[0], "!")
	for _, entry := range list {
		word, negated := strings.CutPrefix(entry, "!")
		switch {
		case !slices.Contains(authMethods[:], word):
			return nil, fmt.Sprintf("%q is not one of %s; write these with commas between them", entry, strings.Join(authMethods[:], ", "))
		case negated != not:
			return nil, fmt.Sprintf("%q and %q can't stand together; write ! before all words or before none", list[0], entry)
		case slices.Contains(named, word):
			return nil, fmt.Sprintf("%q is there twice; delete one of them", entry)
		}
		named = append(named, word)
	}
	if !not {
		return named, ""
	}
	for _, word := range authMethods {
		if !slices.Contains(named, word) {
			allowed = append(allowed, word)
		}
	}
	if len(allowed) == 0 {
		return nil, "nothing is left that the server could ask for; take a word out"
	}
	return allowed, ""
}
