package operator

import (
	"strings"
	"testing"

	"github.com/pgagroal-go/pgagroal/test/pool"
)

func TestTheCommandsTellAFailoverInWords(t *testing.T) {
	t.Parallel()
	s := pool.FailedOver(t, 2)
	s.Pool.WaitState("n3", "Replica (detached)")
	for _, tt := range []struct {
		command []string
		says    []string
	}{
		{[]string{"status"}, []string{"State: Failed", "State: Primary", "Reason: replaced by n2", "Held: false", "Epoch: 2", "Timeline: 2"}},
		{[]string{"failover", "status"}, []string{
			"Primary: n2", "Phase: open", "EndedBy: pgagroal-cli clear server n1", "Qualifier: detached",
			"in recovery, but not streaming on timeline 2", "Probe: refused",
		}},
		{[]string{"failover", "history"}, []string{
			"3 probes in a row: refused", "kind: failover", "kind: verified", "kind: notify", "verdict: chosen", "verdict: eligible",
			"n1: refused", "result: exit code 0", "running: ", "choosing: ",
		}},
	} {
		out, errs, code := s.Pool.CLI(append(tt.command, "--format", "tree")...)
		if code != 0 {
			t.Errorf("%v: exit %d\n%s", tt.command, code, errs)
		}
		for _, want := range tt.says {
			if !strings.Contains(out, want) {
				t.Errorf("%v doesn't say %q:\n%s", tt.command, want, out)
			}
		}
	}
	for _, want := range []string{"failover complete", "server state", "failover phase", "old=Primary new=Failover", "old=Failover new=Failed"} {
		if !strings.Contains(s.Pool.Log(), want) {
			t.Errorf("the log doesn't say %q", want)
		}
	}
	n1, n2, n3 := s.Node(1), s.Node(2), s.Node(3)
	s.Ran(pool.OneRun(n1, n2), pool.OneRun(n1, n2, n3))
}
