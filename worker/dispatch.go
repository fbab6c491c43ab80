package worker

import "github.com/pgagroal-go/pgagroal/ipc"

// dispatch hands a message of the supervisor to its handler.
func (w *worker) dispatch(env ipc.Envelope) {
	switch m := env.Message.(type) {
	case *ipc.Ping:
		w.send(&ipc.Pong{ID: m.ID})
	case *ipc.ServerState:
		w.onServerState(m)
	case *ipc.Fence:
		w.onFence(m)
	case *ipc.Quiesce:
		w.onQuiesce(m)
	case *ipc.ActivityRequest:
		w.onActivityRequest(m)
	case *ipc.NewClient:
		w.onNewClient(m, env.FDs)
	case *ipc.SessionIn:
		w.onSessionIn(m, env.FDs)
	case *ipc.Pass:
		w.onPass(m)
	case *ipc.AdmitAnswer:
		w.onAdmitAnswer(m)
	case *ipc.OpenAhead:
		w.onOpenAhead(m)
	case *ipc.LeaseGrant:
		w.onLeaseGrant(m)
	case *ipc.LeaseRefuse:
		w.onLeaseRefuse(m)
	case *ipc.Reclaim:
		w.onReclaim(m)
	case *ipc.ReclaimCancel:
		w.onReclaimCancel(m)
	case *ipc.TakeOver:
		w.onTakeOver(m, env.FDs)
	case *ipc.SecretAnswer:
		w.onSecretAnswer(m)
	case *ipc.StoredAnswer:
		w.onStoredAnswer(m)
	case *ipc.PeerAnswer:
		w.onPeerAnswer(m)
	case *ipc.CancelForward:
		w.onCancelForward(m)
	case *ipc.CancelDone:
		w.onCancelDone(m)
	case *ipc.ReportRequest:
		w.onReportRequest(m)
	case *ipc.StatsRequest:
		w.onStatsRequest(m)
	case *ipc.Kick:
		w.onKick(m)
	case *ipc.StatsClear:
		w.clearStats()
	case *ipc.Flush:
		w.onFlush(m)
	case *ipc.Drain:
		w.onDrain()
	case *ipc.WorkerLog:
		w.onLog(m, env.FDs)
	case *ipc.ConfigCommit:
		w.onConfigCommit(m)
	default:
		w.onReload(m)
	}
}
