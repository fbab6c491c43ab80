package config

// failoverRows are the keys of the main section that are about failover.
func failoverRows() []Row {
	return []Row{
		{
			Name: "failover", Kind: Bool, Default: "off",
			Help: "Promote a standby with failover_script when the primary dies",
			main: func(c *Config) any { return &c.Failover },
		},
		{
			Name: "failover_script", Kind: File,
			Help: "Script that promotes: OLD_HOST OLD_PORT NEW_HOST NEW_PORT",
			main: func(c *Config) any { return &c.FailoverScript },
		},
		{
			Name: "failover_notify_script", Kind: File,
			Help: "Script that runs after a failover: the same four, then HOST PORT of each other standby",
			main: func(c *Config) any { return &c.FailoverNotifyScript },
		},
		{
			Name: "failover_fence_script", Kind: File,
			Help: "Script that cuts the old primary off before a promotion: OLD_HOST OLD_PORT",
			main: func(c *Config) any { return &c.FailoverFenceScript },
		},
		{
			Name: "scriptrunner_socket", Kind: File, Reload: Restart,
			Help: "Socket of pgagroal-scriptrunner as a service of its own; empty starts one as a child",
			main: func(c *Config) any { return &c.ScriptrunnerSocket },
		},
		{
			Name: "failover_mode", Kind: Enum, Default: "script", Values: []string{"script", "follow", "off"},
			Help: "Promote with the script, only follow what others promote, or do neither",
			main: func(c *Config) any { return &c.FailoverMode },
		},
		{
			Name: "failover_start_timeout", Kind: DurationMS, Default: "5s",
			Help: "How long a start waits for answers of the servers before clients are let in",
			main: func(c *Config) any { return &c.FailoverStartTimeout },
		},
		{
			Name: "failover_probe_count", Kind: Int, Default: "3", Min: 1, Max: 1000,
			Help: "Failed probes in a row that confirm a death",
			main: func(c *Config) any { return &c.FailoverProbeCount },
		},
		{
			Name: "failover_probe_interval", Kind: DurationMS, Default: "300ms", Min: 10,
			Help: "Pause between the end of a probe and the next",
			main: func(c *Config) any { return &c.FailoverProbeInterval },
		},
		{
			Name: "failover_probe_timeout", Kind: DurationMS, Default: "2s", Min: 10,
			Help: "Time after which a probe has failed; health_check_timeout if only that is set",
			main: func(c *Config) any { return &c.FailoverProbeTimeout },
		},
		{
			Name: "failover_restart_grace", Kind: DurationMS, Default: "10s",
			Help: "How long a primary that announced its shutdown has to come back before it counts as dead",
			main: func(c *Config) any { return &c.FailoverRestartGrace },
		},
		{
			Name: "failover_silence_time", Kind: DurationMS, Default: "15s",
			Help: "How long a primary that is silent instead of refusing must have sent nothing on any connection before a failover",
			main: func(c *Config) any { return &c.FailoverSilenceTime },
		},
		{
			Name: "failover_min_standbys", Kind: Int, Default: "0", Max: 1000,
			Help: "Standbys that must be reachable and not receiving when the primary is silent; 0 means all of them when there are two or more, else one",
			main: func(c *Config) any { return &c.FailoverMinStandbys },
		},
		{
			Name: "failover_startup_grace", Kind: DurationMS, Default: "60s",
			Help: "How long a server may answer that it is starting up or shutting down before it counts as dead",
			main: func(c *Config) any { return &c.FailoverStartupGrace },
		},
		{
			Name: "failover_veto_streaming", Kind: Bool, Default: "on",
			Help: "No failover while a standby still receives from the silent primary",
			main: func(c *Config) any { return &c.FailoverVetoStreaming },
		},
		{
			Name: "failover_veto_max", Kind: DurationMS, Default: "60s",
			Help: "Longest time that failover_veto_streaming holds a failover back; also how long a primary may refuse every login while its open sessions work",
			main: func(c *Config) any { return &c.FailoverVetoMax },
		},
		{
			Name: "fence_timeout", Kind: DurationMS, Default: "500ms", Min: 10,
			Help: "Time in which a worker must have cut its connections to the old primary, else it is killed",
			main: func(c *Config) any { return &c.FenceTimeout },
		},
		{
			Name: "failover_client_wait", Kind: DurationMS, Default: "30s",
			Help: "How long clients are held during a failover",
			main: func(c *Config) any { return &c.FailoverClientWait },
		},
		{
			Name: "failover_keep_sessions", Kind: Enum, Default: KeepAuto, Values: []string{KeepAuto, "off", "known", "on"},
			Help: "In the session pipeline, move a session to the new primary instead of ending it",
			main: func(c *Config) any { return &c.FailoverKeepSessions },
		},
		{
			Name: "failover_keep_functions", Kind: String,
			Help: "Functions that leave nothing in a session, by commas, for failover_keep_sessions = known",
			main: func(c *Config) any { return &c.FailoverKeepFunctions },
		},
		{
			Name: "failover_max_lag", Kind: Size, Default: "0",
			Help: "A candidate that is further behind is refused; 0 means no bound",
			main: func(c *Config) any { return &c.FailoverMaxLag },
		},
		{
			Name: "failover_script_timeout", Kind: DurationMS, Default: "120s", Min: 100,
			Help: "Time after which failover_script has failed",
			main: func(c *Config) any { return &c.FailoverScriptTimeout },
		},
		{
			Name: "failover_kill_delay", Kind: DurationMS, Default: "5s",
			Help: "Time from SIGTERM to SIGKILL for a script that overran",
			main: func(c *Config) any { return &c.FailoverKillDelay },
		},
		{
			Name: "failover_verify", Kind: Enum, Default: "wait", Values: []string{"wait", "strict", "off"},
			Help: "Whether clients wait until the new primary is seen out of recovery (wait), the run fails when it is not (strict), or the script is trusted (off)",
			main: func(c *Config) any { return &c.FailoverVerify },
		},
		{
			Name: "failover_verify_timeout", Kind: DurationMS, Default: "10s",
			Help: "Time for the new primary to be seen out of recovery; after it failover_verify = wait raises an alarm and strict counts the run as failed",
			main: func(c *Config) any { return &c.FailoverVerifyTimeout },
		},
		{
			Name: "failover_notify_timeout", Kind: DurationMS, Default: "600s", Min: 100,
			Help: "Time after which failover_notify_script has failed",
			main: func(c *Config) any { return &c.FailoverNotifyTimeout },
		},
		{
			Name: "failover_notify_retries", Kind: Int, Default: "0", Max: 1000,
			Help: "How often a failed failover_notify_script is run again",
			main: func(c *Config) any { return &c.FailoverNotifyRetries },
		},
		{
			Name: "failover_settle", Kind: Enum, Default: "auto", Values: []string{"auto", "manual"},
			Help: "After a failed run: use a primary again as soon as it is clear which one (auto), or wait for pgagroal-cli (manual)",
			main: func(c *Config) any { return &c.FailoverSettle },
		},
		{
			Name: "failback", Kind: Enum, Default: "manual", Values: []string{"manual", "standby"},
			Help: "Whether an old primary that is back as a standby stays Failed until pgagroal-cli clear server (manual) or is used again by itself (standby)",
			main: func(c *Config) any { return &c.Failback },
		},
		{
			Name: "failback_quarantine", Kind: DurationMS, Default: "60s",
			Help: "How long every probe must have seen the old primary follow the new one before failback = standby uses it again",
			main: func(c *Config) any { return &c.FailbackQuarantine },
		},
		{
			Name: "failover_max", Kind: Int, Default: "0", Max: 1000000,
			Help: "Most failovers in each failover_window, then none until pgagroal-cli failover reset; 0 means no bound",
			main: func(c *Config) any { return &c.FailoverMax },
		},
		{
			Name: "failover_window", Kind: DurationMS, Default: "1h",
			Help: "Length of the window in which failover_max counts failovers",
			main: func(c *Config) any { return &c.FailoverWindow },
		},
	}
}
