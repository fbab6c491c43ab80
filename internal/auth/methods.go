package auth

import (
	"slices"
	"strings"
)

// none is the word for a server that asks for nothing, as libpq's require_auth has it.
const none = "none"

// Methods are the methods by which a server may have a user prove itself; Trust is for a server that asks for nothing.
// Empty Methods allow every method.
type Methods []Method

// NewMethods returns the Methods of the words of require_auth.
func NewMethods(words []string) Methods {
	var all Methods
	for _, w := range words {
		if w == none {
			w = string(Trust)
		}
		all = append(all, Method(w))
	}
	return all
}

// String returns the words of require_auth.
func (m Methods) String() string {
	var words []string
	for _, x := range m {
		if x == Trust {
			x = none
		}
		words = append(words, string(x))
	}
	return strings.Join(words, ", ")
}

// Check returns a *MethodError if a server that asks for a method gets no answer.
func (m Methods) Check(asked Method) error {
	if len(m) == 0 || slices.Contains(m, asked) {
		return nil
	}
	name := string(asked)
	if asked == Trust {
		name = "no password"
	}
	return &MethodError{Name: name + ", and require_auth allows only " + m.String(), Allowed: m}
}
