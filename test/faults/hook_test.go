package faults

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

// hook writes a script that notes the time and its arguments, and then does what
// body says.
func (s *scene) hook(name, body string) {
	s.t.Helper()
	text := fmt.Sprintf("#!/bin/sh\necho \"$(date +%%s%%N) $*\" >>%s\n%s\n", s.p.Path("hooks/"+name+".runs"), body)
	pool.WriteFile(s.t, s.p.Path("hooks/"+name), text, 0o755)
}

// hookRun is one run of a hook.
type hookRun struct {
	at   time.Time
	args string
}

// runs returns the runs of a hook so far.
func (s *scene) runs(name string) []hookRun {
	s.t.Helper()
	data, err := os.ReadFile(s.p.Path("hooks/" + name + ".runs"))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	var out []hookRun
	for line := range strings.Lines(string(data)) {
		at, args, whole := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		ns, err := strconv.ParseInt(at, 10, 64)
		if !whole || err != nil {
			s.t.Fatalf("%s noted %q", name, line)
		}
		out = append(out, hookRun{time.Unix(0, ns), args})
	}
	return out
}
