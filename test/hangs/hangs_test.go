package hangs

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgagroal-go/pgagroal/internal/pgtest"
	"github.com/pgagroal-go/pgagroal/test/pool"
)

var (
	write = flag.Bool("write", false, "test all rows and put the table into doc/RELIABILITY.md")
	all   = flag.Bool("all", false, "test all rows")
)

func TestMain(m *testing.M) {
	flag.Parse()
	pool.Main(m)
}

// page is where the table goes.
const page = "../../doc/RELIABILITY.md"

// patience bounds what comes after the longest hang.
const patience = 3 * time.Minute

// hang is one row: a process that is stopped for a while in a phase.
type hang struct {
	phase   phase
	process string
	lasts   time.Duration
}

func (h hang) String() string {
	return fmt.Sprintf("%s/%s/%s", strings.ReplaceAll(h.phase.name, " ", "_"), h.process, h.lasts)
}

// processes are what hangs, each in its turn.
var processes = []string{"supervisor", "worker", "runner", "prober"}

// hangs are the rows, in the order of the table: all of them, or those that need
// little time.
func hangs(complete bool) []hang {
	var out []hang
	for _, p := range phases() {
		for _, process := range processes {
			for _, d := range []time.Duration{time.Second, 10 * time.Second, 100 * time.Second} {
				if complete || p.always && d == time.Second {
					out = append(out, hang{p, process, d})
				}
			}
		}
	}
	if !complete { // long enough for a run to be given up
		out = append(out, hang{before(), "runner", 15 * time.Second})
	}
	return out
}

// outcome is what a row has shown.
type outcome struct {
	runs    int
	primary string
	alarms  string
	seen    pool.Seen
	lost    int
}

func TestAProcessThatHangsCausesNoSecondRunAndNoSecondPrimary(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	outcomes := map[string]outcome{}
	rows := hangs(*all || *write)
	t.Run("hang", func(t *testing.T) {
		for _, h := range rows {
			t.Run(h.String(), func(t *testing.T) {
				t.Parallel()
				o := h.play(t)
				mu.Lock()
				defer mu.Unlock()
				outcomes[h.String()] = o
			})
		}
	})
	text := table(rows, outcomes)
	t.Log("\n" + text)
	if *write && !t.Failed() {
		pool.Must(t, pool.Publish(page, "hangs", text))
	}
}

// scene is a pool with clients that write, in front of a primary and two standbys.
type scene struct {
	*pool.Scene
	load *pool.Load
	open func() // lets a script go on that waits
	back bool   // the old primary was started again
}

// play stops a process and checks what must hold whatever hangs.
func (h hang) play(t *testing.T) outcome {
	s := start(t, h.phase)
	if h.phase.reach != nil {
		h.phase.reach(s)
	}
	pid := s.process(h.process)
	pool.Must(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	if h.phase.then != nil {
		h.phase.then(s)
	}
	s.hold(h.lasts)
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	s.settle()
	return s.judge(h.phase.calm)
}

func start(t *testing.T, p phase) *scene {
	t.Helper()
	c := pgtest.New(t, pgtest.Options{Standbys: 2, SyncStandbys: "ANY 1 (n2, n3)"})
	keys := map[string]string{
		"pipeline": "transaction", "failover_script_timeout": "20s", "failover_kill_delay": "1s", "fence_timeout": "5s",
		"health_check": "on", "health_check_period": "1s",
	}
	maps.Copy(keys, p.keys)
	pl, open := p.plan(t, c)
	pl.Keys = keys
	s := &scene{Scene: pool.Play(t, c, pl), open: open}
	s.Opened("n1")
	s.RunnerUp(0)
	_, err := s.Node(1).Query(pool.Within(t), "CREATE TABLE t(id text)")
	pool.Must(t, err)
	s.load = pool.StartLoad(s.Pool.Config("postgres", "", "postgres"))
	t.Cleanup(s.load.End)
	s.served(20)
	return s
}

// served waits until clients were told of so many more rows.
func (s *scene) served(n int) {
	s.T.Helper()
	from := s.load.Count()
	pgtest.WaitUntil(s.T, patience, "clients to be served", func() bool { return s.load.Count() >= from+n }, s.Pool.Log)
}

// process is the id of the process that is to hang.
func (s *scene) process(name string) int {
	s.T.Helper()
	switch name {
	case "supervisor":
		return s.Pool.PID()
	case "worker":
		return s.Pool.Workers()[0]
	case "prober":
		return s.Pool.Prober()
	}
	return s.Pool.Runner()
}

// hold lets time pass. Should pgagroal hold logins without having promoted anything,
// a person starts the old primary again, as the log advises.
func (s *scene) hold(d time.Duration) {
	s.T.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-end.C:
			return
		case <-tick.C:
			s.help()
		}
	}
}

func (s *scene) help() {
	s.T.Helper()
	if s.back || s.Node(1).Running() || !strings.Contains(s.Pool.Log(), "new=held") || len(s.Failover.Runs()) > 0 {
		return
	}
	s.back = true
	pool.Must(s.T, s.Node(1).Start(pool.Within(s.T)))
}

// settle waits until clients are served again, and a moment longer for what may
// come too late.
func (s *scene) settle() {
	s.T.Helper()
	from := s.load.Count()
	pgtest.WaitUntil(s.T, patience, "clients to be served again", func() bool {
		s.help()
		return s.load.Count() >= from+50
	}, s.Pool.Log)
	pgtest.WaitUntil(s.T, patience, "the pool to be open", func() bool {
		st := s.Status()
		return st["Phase"] == "open" && st["Held"] == false
	}, s.Pool.Log)
	s.hold(2 * time.Second)
}

// judge checks that there is one primary, that of the pool, and that it was made by
// one run at most.
func (s *scene) judge(calm bool) outcome {
	s.T.Helper()
	s.load.End()
	o := outcome{runs: len(s.Failover.Runs()), primary: s.Word("Primary"), alarms: alarms(s.Pool.Log()), seen: s.load.Seen()}
	var writable []string
	for _, n := range s.Cluster.Nodes {
		if !n.Running() {
			continue
		}
		standby, err := n.InRecovery(pool.Within(s.T))
		pool.Must(s.T, err)
		if !standby {
			writable = append(writable, n.Name)
		}
	}
	if len(writable) != 1 || writable[0] != o.primary {
		s.T.Errorf("writable: %v, and the pool's primary is %s", writable, o.primary)
	}
	if notified := len(s.Notify.Runs()); o.runs > 1 || notified > o.runs || calm && o.runs > 0 || (o.runs == 0) != (o.primary == "n1") {
		s.T.Errorf("%d runs of failover_script and %d of failover_notify_script; the primary is %s", o.runs, notified, o.primary)
	}
	if o.lost = s.lost(o); o.lost > 0 {
		s.T.Errorf("%d of %d acknowledged rows are lost", o.lost, len(o.seen.Acked))
	}
	return o
}

// lost counts the acknowledged rows that the primary doesn't have.
func (s *scene) lost(o outcome) (n int) {
	s.T.Helper()
	i := slices.IndexFunc(s.Cluster.Nodes, func(n *pgtest.Node) bool { return n.Name == o.primary })
	text, err := s.Cluster.Nodes[i].Query(pool.Within(s.T), "SELECT id FROM t")
	pool.Must(s.T, err)
	there := map[string]bool{}
	for _, id := range strings.Fields(text) {
		there[id] = true
	}
	for id := range o.seen.Acked {
		if !there[id] {
			n++
		}
	}
	return n
}

var alarmForm = regexp.MustCompile(`\balarm=(?:(\w+)|"([^"]+)")`)

// alarms names the alarms that were raised, each once.
func alarms(log string) string {
	var names []string
	for _, m := range alarmForm.FindAllStringSubmatch(log, -1) {
		if name := m[1] + m[2]; !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "-"
	}
	return strings.Join(names, ", ")
}

// table is the page's, in Markdown.
func table(rows []hang, outcomes map[string]outcome) string {
	text := [][]string{{"phase", "hangs", "for", "runs", "primary then", "alarms", "longest pause of all writes", "errors", "clients disconnected", "acknowledged rows lost"}}
	for _, h := range rows {
		o, ok := outcomes[h.String()]
		if !ok {
			continue
		}
		told := strings.TrimSpace(o.seen.Errors)
		if told == "" {
			told = "-"
		}
		text = append(text, []string{
			h.phase.name, h.process, fmt.Sprintf("%.0f s", h.lasts.Seconds()), fmt.Sprint(o.runs), o.primary, o.alarms,
			fmt.Sprintf("%.1f s", o.seen.Pause.Seconds()), told, fmt.Sprint(o.seen.Disconnected), fmt.Sprint(o.lost),
		})
	}
	return pool.Markdown(text)
}
