package failover

import (
	"slices"
	"testing"
)

// TestWhoRunsNoScriptsMissesNoRunner: a reload to failover_mode = follow ends the runner, which is no alarm.
func TestWhoRunsNoScriptsMissesNoRunner(t *testing.T) {
	missed := []Event{
		RunnerDown{"it has ended"},
		RunnerSilent{"it has not answered for 9s"},
		NotifyBroken{"it has mode 0644"},
		RunsAllowed{Holder: "process 9"},
	}
	cfg := Config{Enabled: true, Servers: []ServerConfig{{Name: "s1"}, {Name: "s2"}, {Name: "s3"}}}
	w := newWorld(cfg, []*node{{}, {}, {}})
	tell := func() {
		for _, ev := range missed {
			w.step(ev)
		}
	}
	w.start()
	tell()
	if got := namesOf(w.m.Status(w.now)); len(got) != len(missed) {
		t.Fatalf("alarms %v where scripts run, want %d", got, len(missed))
	}
	cfg.Follow = true
	w.step(Reconfigured{Config: &cfg})
	if got := namesOf(w.m.Status(w.now)); len(got) != 0 {
		t.Errorf("the alarms %v stay with failover_mode = follow", got)
	}
	tell()
	if got := namesOf(w.m.Status(w.now)); len(got) != 0 {
		t.Errorf("the alarms %v come with failover_mode = follow", got)
	}
}

// namesOf returns the alarms that scripts have to do with.
func namesOf(st Status) (names []string) {
	for _, a := range st.Alarms {
		if slices.Contains([]string{"runner", "runner_silent", "notify_script", "state_dir"}, a.Name) {
			names = append(names, a.Name)
		}
	}
	return names
}
