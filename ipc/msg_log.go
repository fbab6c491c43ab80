package ipc

// LogSettings say how a child writes its log. Their message carries the descriptor of the log, which
// the supervisor has opened. The first one comes before the configuration, another one whenever the
// log was opened again or its keys have changed.
type LogSettings struct {
	Kind   int    `msgpack:"kind"`  // logline.Kind
	Level  int    `msgpack:"level"` // slog.Level
	Prefix string `msgpack:"prefix"`
	JSON   bool   `msgpack:"json"`
}

// WorkerLog is for a worker.
type WorkerLog struct {
	Log LogSettings `msgpack:"log"`
}

// RunnerLog is for a runner that the supervisor has started. A service has a log of its own.
type RunnerLog struct {
	Log LogSettings `msgpack:"log"`
}

// ProberLog is for the prober.
type ProberLog struct {
	Log LogSettings `msgpack:"log"`
}

// ConsoleLog is for the console.
type ConsoleLog struct {
	Log LogSettings `msgpack:"log"`
}

// Number returns the row in the catalogue.
func (*WorkerLog) Number() Number { return 140 }

// Number returns the row in the catalogue.
func (*RunnerLog) Number() Number { return 141 }

// Number returns the row in the catalogue.
func (*ProberLog) Number() Number { return 142 }

// Number returns the row in the catalogue.
func (*ConsoleLog) Number() Number { return 143 }
