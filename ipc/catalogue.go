package ipc

import "fmt"

// Number identifies a message on the wire. Numbers are explicit and are never reused, even when a
// message is no longer used.
type Number uint16

// Message is anything with a row in the catalogue.
type Message interface {
	Number() Number
}

// Row is one line of the catalogue.
type Row struct {
	Number   Number
	Name     string
	From, To Role
	// FDs is how many descriptors travel with the message, exactly, and More how many further ones may.
	FDs, More int
	// Reply is the number of the message that answers this one, 0 for none.
	Reply Number
	Phase Phase
	// Coalesce is set for snapshots: a newer one replaces a queued older one.
	Coalesce bool
	// Frozen is set for what a worker says and hears once it serves clients. After an upgrade workers of any earlier version go
	// on under a supervisor of this one, so such a message keeps its number, its fields and their meaning for ever: a new
	// version may only add fields, and must cope with their absence. testdata/frozen has the bytes of each version.
	Frozen bool
	make   func() Message
}

const (
	sup = RoleSupervisor
	wrk = RoleWorker
	run = RoleRunner
	ctl = RoleControl
	prb = RoleProber
	csl = RoleConsole
	rmt = RoleRemote
)

// catalogue is the whole protocol, one row per message.
var catalogue = index([]Row{
	{Number: 1, Name: "WorkerHello", From: wrk, To: sup, Phase: PhaseSetup, make: of[WorkerHello]},
	{Number: 2, Name: "RunnerHello", From: run, To: sup, Phase: PhaseSetup, make: of[RunnerHello]},
	{Number: 3, Name: "Ping", From: sup, To: wrk, Reply: 4, Phase: PhaseRunning, Coalesce: true, Frozen: true, make: of[Ping]},
	{Number: 4, Name: "Pong", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Pong]},

	{Number: 10, Name: "ConfigBegin", From: sup, To: wrk, Phase: phaseAny, make: of[ConfigBegin]},
	{Number: 11, Name: "ConfigServer", From: sup, To: wrk, Phase: phaseAny, make: of[ConfigServer]},
	{Number: 12, Name: "ConfigUser", From: sup, To: wrk, Phase: phaseAny, make: of[ConfigUser]},
	{Number: 13, Name: "ConfigHBA", From: sup, To: wrk, Phase: phaseAny, make: of[ConfigHBA]},
	{Number: 14, Name: "ConfigLimit", From: sup, To: wrk, Phase: phaseAny, make: of[ConfigLimit]},
	{Number: 15, Name: "ConfigEnd", From: sup, To: wrk, Reply: 16, Phase: phaseAny, make: of[ConfigEnd]},
	{Number: 17, Name: "ConfigTLS", From: sup, To: wrk, Phase: phaseAny, make: of[ConfigTLS]},
	{Number: 18, Name: "ConfigIdent", From: sup, To: wrk, Phase: phaseAny, make: of[ConfigIdent]},
	{Number: 19, Name: "ConfigCommit", From: sup, To: wrk, Phase: PhaseRunning, make: of[ConfigCommit]},
	{Number: 16, Name: "ConfigDone", From: wrk, To: sup, Phase: phaseAny, make: of[ConfigDone]},

	{Number: 20, Name: "ServerState", From: sup, To: wrk, Phase: PhaseRunning, Coalesce: true, Frozen: true, make: of[ServerState]},
	{Number: 21, Name: "Hint", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Hint]},
	{Number: 22, Name: "Fence", From: sup, To: wrk, Reply: 23, Phase: PhaseRunning, Frozen: true, make: of[Fence]},
	{Number: 23, Name: "Fenced", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Fenced]},
	{Number: 24, Name: "ActivityRequest", From: sup, To: wrk, Reply: 25, Phase: PhaseRunning, Coalesce: true, Frozen: true, make: of[ActivityRequest]},
	{Number: 25, Name: "Activity", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Activity]},
	{Number: 26, Name: "LoginSeen", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[LoginSeen]},
	{Number: 27, Name: "Quiesce", From: sup, To: wrk, Reply: 28, Phase: PhaseRunning, Coalesce: true, Frozen: true, make: of[Quiesce]},
	{Number: 28, Name: "Quiesced", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Quiesced]},

	{Number: 30, Name: "NewClient", From: sup, To: wrk, FDs: 1, Phase: PhaseRunning, Frozen: true, make: of[NewClient]},
	{Number: 31, Name: "ClientsGone", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[ClientsGone]},
	{Number: 32, Name: "AdmitRequest", From: wrk, To: sup, Reply: 33, Phase: PhaseRunning, Frozen: true, make: of[AdmitRequest]},
	{Number: 33, Name: "AdmitAnswer", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[AdmitAnswer]},

	{Number: 34, Name: "SessionOut", From: wrk, To: sup, FDs: 1, More: 2, Phase: PhaseRunning, Frozen: true, make: of[SessionOut]},
	{Number: 35, Name: "SessionIn", From: sup, To: wrk, FDs: 1, More: 2, Reply: 36, Phase: PhaseRunning, Frozen: true, make: of[SessionIn]},
	{Number: 36, Name: "SessionTaken", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[SessionTaken]},

	{Number: 40, Name: "LeaseRequest", From: wrk, To: sup, Reply: 41, Phase: PhaseRunning, Frozen: true, make: of[LeaseRequest]},
	{Number: 41, Name: "LeaseGrant", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[LeaseGrant]},
	{Number: 42, Name: "LeaseRefuse", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[LeaseRefuse]},
	{Number: 43, Name: "LeaseAbandon", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[LeaseAbandon]},
	{Number: 44, Name: "LeaseOpened", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[LeaseOpened]},
	{Number: 45, Name: "LeaseReturn", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[LeaseReturn]},
	{Number: 46, Name: "Reclaim", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[Reclaim]},
	{Number: 47, Name: "ReclaimCancel", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[ReclaimCancel]},
	{Number: 48, Name: "HandOver", From: wrk, To: sup, FDs: 1, Phase: PhaseRunning, Frozen: true, make: of[HandOver]},
	{Number: 49, Name: "TakeOver", From: sup, To: wrk, FDs: 1, Phase: PhaseRunning, Frozen: true, make: of[TakeOver]},

	{Number: 50, Name: "CancelRequest", From: wrk, To: sup, Reply: 53, Phase: PhaseRunning, Frozen: true, make: of[CancelRequest]},
	{Number: 51, Name: "CancelForward", From: sup, To: wrk, Reply: 52, Phase: PhaseRunning, Frozen: true, make: of[CancelForward]},
	{Number: 52, Name: "CancelAnswer", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[CancelAnswer]},
	{Number: 53, Name: "CancelDone", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[CancelDone]},

	{Number: 54, Name: "SecretRequest", From: wrk, To: sup, Reply: 55, Phase: PhaseRunning, Frozen: true, make: of[SecretRequest]},
	{Number: 55, Name: "SecretAnswer", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[SecretAnswer]},

	{Number: 56, Name: "PeerRequest", From: wrk, To: sup, Reply: 57, Phase: PhaseRunning, Frozen: true, make: of[PeerRequest]},
	{Number: 57, Name: "PeerAnswer", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[PeerAnswer]},

	{Number: 58, Name: "OpenAhead", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[OpenAhead]},
	{Number: 59, Name: "AheadFailed", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[AheadFailed]},

	{Number: 60, Name: "ReportRequest", From: sup, To: wrk, Reply: 61, Phase: PhaseRunning, Frozen: true, make: of[ReportRequest]},
	{Number: 61, Name: "Report", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Report]},
	{Number: 62, Name: "ReportSession", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[ReportSession]},
	{Number: 63, Name: "ReportEnd", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[ReportEnd]},
	{Number: 64, Name: "Flush", From: sup, To: wrk, Reply: 65, Phase: PhaseRunning, Frozen: true, make: of[Flush]},
	{Number: 65, Name: "Flushed", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Flushed]},
	{Number: 66, Name: "Kick", From: sup, To: wrk, Reply: 67, Phase: PhaseRunning, Frozen: true, make: of[Kick]},
	{Number: 67, Name: "Kicked", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Kicked]},

	{Number: 70, Name: "Drain", From: sup, To: wrk, Reply: 71, Phase: phaseAny, Frozen: true, make: of[Drain]},
	{Number: 71, Name: "Drained", From: wrk, To: sup, Phase: phaseAny, Frozen: true, make: of[Drained]},

	{Number: 72, Name: "Pass", From: sup, To: wrk, Phase: PhaseRunning, Coalesce: true, Frozen: true, make: of[Pass]},
	{Number: 73, Name: "Passed", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Passed]},

	{Number: 78, Name: "StoredRequest", From: wrk, To: sup, Reply: 79, Phase: PhaseRunning, Frozen: true, make: of[StoredRequest]},
	{Number: 79, Name: "StoredAnswer", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[StoredAnswer]},

	{Number: 80, Name: "RunnerConfigure", From: sup, To: run, Reply: 81, Phase: phaseAny, make: of[RunnerConfigure]},
	{Number: 81, Name: "RunnerReady", From: run, To: sup, Phase: phaseAny, make: of[RunnerReady]},
	{Number: 82, Name: "Run", From: sup, To: run, Reply: 83, Phase: PhaseRunning, make: of[Run]},
	{Number: 83, Name: "RunStarted", From: run, To: sup, Phase: PhaseRunning, make: of[RunStarted]},
	{Number: 84, Name: "RunOutput", From: run, To: sup, Phase: PhaseRunning, make: of[RunOutput]},
	{Number: 85, Name: "RunEnded", From: run, To: sup, Phase: PhaseRunning, make: of[RunEnded]},
	{Number: 86, Name: "StopRun", From: sup, To: run, Reply: 85, Phase: PhaseRunning, make: of[StopRun]},
	{Number: 87, Name: "CheckHooks", From: sup, To: run, Reply: 88, Phase: PhaseRunning, make: of[CheckHooks]},
	{Number: 88, Name: "HooksChecked", From: run, To: sup, Phase: PhaseRunning, make: of[HooksChecked]},
	{Number: 89, Name: "RunStarting", From: run, To: sup, Phase: PhaseRunning, make: of[RunStarting]},
	{Number: 93, Name: "RunnerCommit", From: sup, To: run, Phase: PhaseRunning, make: of[RunnerCommit]},
	{Number: 92, Name: "CheckRun", From: sup, To: run, Reply: 85, Phase: PhaseRunning, make: of[CheckRun]},

	{Number: 90, Name: "ControlRequest", From: ctl, To: sup, Reply: 91, Phase: phaseAny, make: of[ControlRequest]},
	{Number: 91, Name: "ControlReply", From: sup, To: ctl, Phase: phaseAny, make: of[ControlReply]},

	{Number: 100, Name: "ProberHello", From: prb, To: sup, Phase: PhaseSetup, make: of[ProberHello]},
	{Number: 101, Name: "ProberConfigure", From: sup, To: prb, Reply: 102, Phase: PhaseSetup, make: of[ProberConfigure]},
	{Number: 102, Name: "ProberReady", From: prb, To: sup, Phase: PhaseSetup, make: of[ProberReady]},
	{Number: 103, Name: "ProbeRequest", From: sup, To: prb, Reply: 104, Phase: PhaseRunning, make: of[ProbeRequest]},
	{Number: 104, Name: "ProbeDone", From: prb, To: sup, Phase: PhaseRunning, make: of[ProbeDone]},
	{Number: 105, Name: "BackendsRequest", From: sup, To: prb, Reply: 106, Phase: PhaseRunning, make: of[BackendsRequest]},
	{Number: 106, Name: "BackendsDone", From: prb, To: sup, Phase: PhaseRunning, make: of[BackendsDone]},
	{Number: 107, Name: "SettingsRequest", From: sup, To: prb, Reply: 108, Phase: PhaseRunning, make: of[SettingsRequest]},
	{Number: 108, Name: "SettingsDone", From: prb, To: sup, Phase: PhaseRunning, make: of[SettingsDone]},
	{Number: 109, Name: "ServerCancel", From: sup, To: prb, Reply: 111, Phase: PhaseRunning, make: of[ServerCancel]},
	{Number: 110, Name: "ServerCancelStop", From: sup, To: prb, Reply: 111, Phase: PhaseRunning, make: of[ServerCancelStop]},
	{Number: 111, Name: "ServerCancelDone", From: prb, To: sup, Phase: PhaseRunning, make: of[ServerCancelDone]},
	{Number: 112, Name: "QuestionRequest", From: sup, To: prb, Reply: 113, Phase: PhaseRunning, make: of[QuestionRequest]},
	{Number: 113, Name: "QuestionDone", From: prb, To: sup, Phase: PhaseRunning, make: of[QuestionDone]},

	{Number: 114, Name: "ProberTLS", From: sup, To: prb, Phase: PhaseSetup, make: of[ProberTLS]},

	{Number: 115, Name: "LookUpRequest", From: sup, To: prb, Reply: 116, Phase: PhaseRunning, make: of[LookUpRequest]},
	{Number: 116, Name: "LookUpDone", From: prb, To: sup, Phase: PhaseRunning, make: of[LookUpDone]},
	{Number: 117, Name: "LookUpStop", From: sup, To: prb, Phase: PhaseRunning, make: of[LookUpStop]},

	{Number: 120, Name: "ConsoleHello", From: csl, To: sup, Phase: PhaseSetup, make: of[ConsoleHello]},
	{Number: 121, Name: "ConsoleListen", From: sup, To: csl, FDs: 1, Phase: PhaseSetup, make: of[ConsoleListen]},
	{Number: 122, Name: "ConsoleTLS", From: sup, To: csl, Phase: PhaseSetup, make: of[ConsoleTLS]},
	{Number: 123, Name: "ConsoleConfigure", From: sup, To: csl, Reply: 124, Phase: PhaseSetup, make: of[ConsoleConfigure]},
	{Number: 124, Name: "ConsoleReady", From: csl, To: sup, Phase: PhaseSetup, make: of[ConsoleReady]},
	{Number: 125, Name: "SnapshotRequest", From: csl, To: sup, Reply: 126, Phase: PhaseRunning, make: of[SnapshotRequest]},
	{Number: 126, Name: "SnapshotBegin", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotBegin]},
	{Number: 127, Name: "SnapshotServer", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotServer]},
	{Number: 128, Name: "SnapshotLimit", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotLimit]},
	{Number: 129, Name: "SnapshotProcess", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotProcess]},
	{Number: 130, Name: "SnapshotStats", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotStats]},
	{Number: 131, Name: "SnapshotEnd", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotEnd]},

	{Number: 136, Name: "SnapshotDocument", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotDocument]},
	{Number: 137, Name: "SnapshotHistory", From: sup, To: csl, Phase: PhaseRunning, make: of[SnapshotHistory]},

	{Number: 140, Name: "WorkerLog", From: sup, To: wrk, FDs: 1, Phase: phaseAny, Frozen: true, make: of[WorkerLog]},
	{Number: 141, Name: "RunnerLog", From: sup, To: run, FDs: 1, Phase: phaseAny, make: of[RunnerLog]},
	{Number: 142, Name: "ProberLog", From: sup, To: prb, FDs: 1, Phase: phaseAny, make: of[ProberLog]},
	{Number: 143, Name: "ConsoleLog", From: sup, To: csl, FDs: 1, Phase: phaseAny, make: of[ConsoleLog]},

	{Number: 135, Name: "ConsoleCertificate", From: sup, To: csl, Phase: PhaseSetup, make: of[ConsoleCertificate]},
	{Number: 132, Name: "StatsRequest", From: sup, To: wrk, Reply: 133, Phase: PhaseRunning, Frozen: true, make: of[StatsRequest]},
	{Number: 133, Name: "Stats", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[Stats]},
	{Number: 134, Name: "StatsEnd", From: wrk, To: sup, Phase: PhaseRunning, Frozen: true, make: of[StatsEnd]},
	{Number: 150, Name: "RemoteOpen", From: csl, To: sup, Phase: PhaseRunning, make: of[RemoteOpen]},
	{Number: 151, Name: "RemoteOpened", From: sup, To: csl, FDs: 1, Phase: PhaseRunning, make: of[RemoteOpened]},
	{Number: 152, Name: "RemoteBusy", From: sup, To: csl, Phase: PhaseRunning, make: of[RemoteBusy]},
	{Number: 153, Name: "RemoteLogin", From: rmt, To: sup, Phase: PhaseSetup, make: of[RemoteLogin]},
	{Number: 154, Name: "RemoteChallenge", From: sup, To: rmt, Phase: PhaseSetup, make: of[RemoteChallenge]},
	{Number: 155, Name: "RemoteProof", From: rmt, To: sup, Phase: PhaseSetup, make: of[RemoteProof]},
	{Number: 156, Name: "RemoteProven", From: sup, To: rmt, Phase: PhaseSetup, make: of[RemoteProven]},
	{Number: 157, Name: "RemoteRefused", From: sup, To: rmt, Phase: phaseAny, make: of[RemoteRefused]},
	{Number: 158, Name: "RemoteCommand", From: rmt, To: sup, Phase: PhaseRunning, make: of[RemoteCommand]},
	{Number: 159, Name: "RemoteReply", From: sup, To: rmt, Phase: PhaseRunning, make: of[RemoteReply]},
	{Number: 68, Name: "StatsClear", From: sup, To: wrk, Phase: PhaseRunning, Frozen: true, make: of[StatsClear]},
})

// carries reports whether so many descriptors may travel with the message.
func (r *Row) carries(fds int) bool { return fds >= r.FDs && fds <= r.FDs+r.More }

func of[T any, P interface {
	*T
	Message
}]() Message {
	return P(new(T))
}

func index(rows []Row) map[Number]*Row {
	m := make(map[Number]*Row, len(rows))
	for i := range rows {
		r := &rows[i]
		if m[r.Number] != nil || r.FDs+r.More > MaxFDs || r.make().Number() != r.Number {
			panic(fmt.Sprintf("ipc: bad catalogue row %d %s", r.Number, r.Name))
		}
		m[r.Number] = r
	}
	return m
}

// Lookup returns the catalogue row of a message number.
func Lookup(n Number) (Row, bool) {
	r := catalogue[n]
	if r == nil {
		return Row{}, false
	}
	return *r, true
}

// Name returns the name of a message number, for logs.
func Name(n Number) string {
	if r := catalogue[n]; r != nil {
		return r.Name
	}
	return fmt.Sprintf("message %d", n)
}
