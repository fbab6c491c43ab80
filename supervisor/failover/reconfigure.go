package failover

// onReconfigured takes over a new configuration. Alarms and deadlines follow from it in this step: everything reads the
// configuration when it is needed.
func (m *Machine) onReconfigured(ev Reconfigured) {
	m.set(ev.Problem != "", "configuration", "a reload was refused, and the old configuration is in effect: "+ev.Problem)
	if ev.Config == nil {
		return
	}
	m.cfg = withDefaults(*ev.Config)
	m.takeServers()
	if !m.cfg.scripts() {
		for _, name := range []string{"runner", "runner_silent", "notify_script", "state_dir"} {
			m.clear(name)
		}
	}
	m.warnOfTwo()
	m.changed()
}

// scripts says whether the machine may have a script run: with failover_mode = follow somebody else promotes.
func (c *Config) scripts() bool { return c.Enabled && !c.Follow }

// warnOfTwo warns of a configuration in which nobody can tell a dead primary from a broken network.
func (m *Machine) warnOfTwo() {
	if m.cfg.scripts() && m.count() == 2 && !m.cfg.FenceScript {
		m.logOnce("two servers", Warn, "with two servers a silent primary can't be told from a partition of the network",
			Attr{"hint", "set failover_fence_script, or add a standby"})
	}
}
