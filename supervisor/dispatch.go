package supervisor

import "github.com/pgagroal-go/pgagroal/ipc"

// dispatch hands one message to its handler. The catalogue of messages has already made
// sure that this kind of child may send it.
func (s *supervisor) dispatch(a arrival) {
	if a.stale() {
		abort(a.fds)
		return
	}
	if a.err != nil {
		s.onLinkEnd(a)
		return
	}
	switch m := a.message.(type) {
	case *ipc.WorkerHello:
		s.onWorkerHello(a.worker, m)
	case *ipc.ConfigDone:
		s.onConfigDone(a.worker, m)
	case *ipc.Pong:
		s.onPong(a.worker, m.ID)
	case *ipc.Hint:
		s.onHint(a.worker, m)
	case *ipc.Fenced:
		s.onFenced(a.worker, m)
	case *ipc.Activity:
		s.onActivity(a.worker, m)
	case *ipc.Quiesced:
		s.onQuiesced(a.worker, m)
	case *ipc.LoginSeen:
		s.onLoginSeen(a.worker, m)
	case *ipc.ClientsGone:
		s.onClientsGone(a.worker, m)
	case *ipc.SessionOut:
		s.onSessionOut(a.worker, m, a.fds)
	case *ipc.SessionTaken:
		s.onSessionTaken(a.worker, m)
	case *ipc.Passed:
		s.onPassed(a.worker, m)
	case *ipc.AdmitRequest:
		s.onAdmitRequest(a.worker, m)
	case *ipc.LeaseRequest:
		s.onLeaseRequest(a.worker, m)
	case *ipc.LeaseAbandon:
		s.onLeaseAbandon(a.worker, m)
	case *ipc.LeaseOpened:
		s.onLeaseOpened(a.worker, m)
	case *ipc.AheadFailed:
		s.onAheadFailed(a.worker, m)
	case *ipc.LeaseReturn:
		s.onLeaseReturn(a.worker, m)
	case *ipc.HandOver:
		s.onHandOver(a.worker, m, a.fds)
	case *ipc.CancelRequest:
		s.onCancelRequest(a.worker, m)
	case *ipc.CancelAnswer:
		s.onCancelAnswer(a.worker, m)
	case *ipc.SecretRequest:
		s.onSecretRequest(a.worker, m)
	case *ipc.StoredRequest:
		s.onStoredRequest(a.worker, m)
	case *ipc.PeerRequest:
		s.onPeerRequest(a.worker, m)
	case *ipc.Report:
		s.onReport(a.worker, m)
	case *ipc.ReportSession:
		s.onReportSession(a.worker, m)
	case *ipc.ReportEnd:
		s.onReportEnd(a.worker, m)
	case *ipc.Kicked:
		s.onKicked(a.worker, m)
	case *ipc.Flushed:
		s.onFlushed(a.worker, m)
	case *ipc.Drained:
		s.onDrained(a.worker)
	case *ipc.ProberHello:
		s.onAideHello(a.aide, m.Version)
	case *ipc.ProberReady:
		s.onAideReady(a.aide, m.Confined, m.Unconfined)
	case *ipc.ProbeDone:
		s.onLookDone(a.aide, m.ID, m)
	case *ipc.BackendsDone:
		s.onLookDone(a.aide, m.ID, m)
	case *ipc.SettingsDone:
		s.onLookDone(a.aide, m.ID, m)
	case *ipc.QuestionDone:
		s.onLookDone(a.aide, m.ID, m)
	case *ipc.LookUpDone:
		s.onLookDone(a.aide, m.ID, m)
	case *ipc.ServerCancelDone:
		s.onLookDone(a.aide, m.ID, m)
	case *ipc.Stats:
		s.onStats(a.worker, m)
	case *ipc.StatsEnd:
		s.onStatsEnd(a.worker, m)
	case *ipc.ConsoleHello:
		s.onConsoleHello(a.aide, m)
	case *ipc.ConsoleReady:
		s.onAideReady(a.aide, m.Confined, m.Unconfined)
	case *ipc.SnapshotRequest:
		s.onSnapshotRequest(a.aide, m)
	case *ipc.RemoteOpen:
		s.onRemoteOpen(a.aide, m)
	case *ipc.RunnerHello:
		s.onRunnerHello(a.runner, m)
	case *ipc.RunnerReady:
		s.onRunnerReady(a.runner, m)
	case *ipc.HooksChecked:
		s.onHooksChecked(a.runner, m)
	case *ipc.RunStarting:
		s.onRunStarting(m)
	case *ipc.RunStarted:
		s.onRunStarted(m)
	case *ipc.RunOutput:
		s.onRunOutput(m)
	case *ipc.RunEnded:
		s.onRunEnded(m)
	}
}

// stale reports whether the sender has been replaced, or is about to be.
func (a arrival) stale() bool {
	if a.worker != nil {
		return a.worker.ending()
	}
	if a.aide != nil {
		return a.aide.dropped
	}
	return a.runner.gone
}

func (s *supervisor) onLinkEnd(a arrival) {
	if a.worker != nil {
		s.onWorkerLinkEnd(a.worker, a.err)
		return
	}
	if a.aide != nil {
		s.onAideLinkEnd(a.aide, a.err)
		return
	}
	s.onRunnerLinkEnd(a.runner, a.err)
}
