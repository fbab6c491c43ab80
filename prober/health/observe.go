package health

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// sqlRole is the first query and asks only for the role, so that a failure of another
// query can't lose the role.
const sqlRole = "SELECT pg_is_in_recovery()"

// details are asked in the same round trip as the role. Each has its own answer, because which functions a user may
// call differs. They call the functions beneath the statistics views, because the views join catalogs whose locks a
// query might wait for. These functions exist in PostgreSQL 10 to 18; sender_host came with 11, so it is read by way
// of JSON.
var details = [...]struct {
	sql  string
	take func(*reading, [][]string)
}{
	{`SELECT s.system_identifier, c.timeline_id, r.min_recovery_end_timeline, c.checkpoint_lsn,
		(extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint
		FROM pg_control_system() s, pg_control_checkpoint() c, pg_control_recovery() r`, (*reading).takeControl},
	// This query comes before the positions, so that a timeline is judged by positions that are
	// at least as recent.
	{`SELECT w.status, w.received_tli, to_jsonb(w) ->> 'sender_host', to_jsonb(w) ->> 'sender_port',
		(extract(epoch FROM clock_timestamp() - w.last_msg_receipt_time) * 1000000)::bigint, w.slot_name,
		(extract(epoch FROM current_setting('wal_receiver_timeout')::interval) * 1000)::bigint
		FROM pg_stat_get_wal_receiver() w WHERE w.pid IS NOT NULL`, (*reading).takeReceiver},
	// The role is read once for all columns, so that a promotion in between makes the query fail instead of returning a
	// mixture. The replay position is read before the receive position; in the other order a busy standby would seem to
	// have replayed more than it has received.
	{`SELECT r.standby,
		CASE WHEN NOT r.standby THEN pg_current_wal_lsn() END,
		CASE WHEN NOT r.standby THEN pg_walfile_name(pg_current_wal_lsn()) END,
		CASE WHEN r.standby THEN pg_last_wal_replay_lsn() END,
		CASE WHEN r.standby THEN pg_last_wal_receive_lsn() END,
		CASE WHEN r.standby THEN pg_is_wal_replay_paused() END,
		current_setting('recovery_min_apply_delay', true)
		FROM (SELECT pg_is_in_recovery() AS standby OFFSET 0) r`, (*reading).takeState},
	{`SELECT DISTINCT a.application_name
		FROM pg_stat_get_wal_senders() s JOIN pg_stat_get_activity(NULL) a ON a.pid = s.pid
		WHERE s.sync_state IN ('sync', 'quorum') ORDER BY 1 LIMIT 64`, (*reading).takeSync},
	{`SELECT count(*) FROM pg_stat_get_activity(NULL) a WHERE a.wait_event = 'SyncRep'`, (*reading).takeWaiting},
	// This query is the last because it is the only one that opens a relation.
	{`SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user`, (*reading).takeReplication},
}

// reading holds the answers, before the role decides which of them count.
type reading struct {
	standby      bool
	mayReplicate bool // the user may open a replication connection
	system       uint64
	// timelines: controlTimeline and receivedTimeline are lower bounds, walTimeline and exactTimeline are exact.
	controlTimeline, receivedTimeline, walTimeline, exactTimeline uint32
	writeLSN, receiveLSN, replayLSN, checkpoint                   uint64
	started                                                       int64 // the postmaster, microseconds since 1970
	paused                                                        bool
	receiver                                                      ipc.Receiver
	receiverWord, slotName, senderHost, senderPort                string
	lastMsgAge, receiverTimeout                                   time.Duration
	lastMsgKnown                                                  bool
	sync                                                          []string
	waiting                                                       bool
}

// observe asks everything in one round trip. A detail that the server refuses is left out; an error that ends the
// session comes with what was read before, nil as long as the role isn't known.
func (s *session) observe() (*reading, error) {
	queries := []string{sqlRole}
	for _, d := range details {
		queries = append(queries, d.sql)
	}
	s.ask(queries...)
	rows, err := s.answer()
	if err != nil {
		return nil, fmt.Errorf("ask for the role: %w", err)
	}
	role := field(rows, 0)
	if role != "t" && role != "f" {
		return nil, errors.New("ask for the role: the answer is neither true nor false")
	}
	r := &reading{standby: role == "t"}
	for _, d := range details {
		rows, err := s.answer()
		if _, lost := errors.AsType[*lostError](err); lost {
			return r, fmt.Errorf("ask for details: %w", err)
		}
		if err == nil {
			d.take(r, rows)
		}
	}
	return r, nil
}

// observation returns what the supervisor needs to know of a server in this role.
func (r *reading) observation() ipc.Observation {
	o := ipc.Observation{SystemID: r.system, PostmasterStart: r.started, Checkpoint: r.checkpoint}
	if !r.standby {
		o.Timeline = r.walTimeline
		o.WriteLSN, o.SyncStandbys, o.SyncWaiting = r.writeLSN, r.sync, r.waiting
		return o
	}
	// The replay timeline stays the old one until the first record of the new timeline arrives, so the streamed
	// timeline counts. But the stream begins at the start of the segment in which the new timeline left the old one,
	// and a server that is promoted before it has received that part again panics ("invalid magic number"). Until then
	// it counts as having nothing of the new timeline. A restarted server, too, has received less than it has replayed
	// until more WAL arrives; its replay position is enough then.
	received := r.receivedTimeline
	if r.receiveLSN < r.replayLSN {
		received = 0
	}
	o.Timeline = max(r.controlTimeline, received)
	if r.exactTimeline != 0 {
		o.Timeline = max(r.exactTimeline, received)
	}
	o.ReceiveLSN, o.ReplayLSN, o.Paused = r.receiveLSN, r.replayLSN, r.paused
	o.Receiver, o.ReceiverWord, o.SlotName = r.receiver, r.receiverWord, r.slotName
	o.SenderHost, o.SenderPort = r.senderHost, r.senderPort
	o.LastMsgAge, o.LastMsgKnown, o.ReceiverTimeout = r.lastMsgAge, r.lastMsgKnown, r.receiverTimeout
	return o
}

func (r *reading) takeControl(rows [][]string) {
	// The value is a bigint, so identifiers of 2^63 and above are negative.
	if id, err := strconv.ParseInt(field(rows, 0), 10, 64); err == nil {
		r.system = uint64(id)
	}
	r.checkpoint = lsn(field(rows, 3))
	if at, err := strconv.ParseInt(field(rows, 4), 10, 64); err == nil {
		r.started = at
	}
	r.controlTimeline = max(timeline(field(rows, 1), 10), timeline(field(rows, 2), 10))
}

func (r *reading) takeState(rows [][]string) {
	if role := field(rows, 0); role == "t" || role == "f" {
		r.standby = role == "t" // the newer answer, in case the server was promoted in between
	}
	r.writeLSN = lsn(field(rows, 1))
	if name := field(rows, 2); len(name) >= 8 {
		r.walTimeline = timeline(name[:8], 16)
	}
	r.replayLSN, r.receiveLSN = lsn(field(rows, 3)), lsn(field(rows, 4))
	delay := field(rows, 6)
	r.paused = field(rows, 5) == "t" || (delay != "" && delay != "0")
}

func (r *reading) takeReceiver(rows [][]string) {
	if len(rows) == 0 {
		r.receiver = ipc.ReceiverGone
		return
	}
	switch field(rows, 0) {
	case "": // NULL: this user may not see it
		return
	case "streaming":
		r.receiver = ipc.ReceiverStreaming
		r.receivedTimeline = timeline(field(rows, 1), 10)
	default:
		r.receiver = ipc.ReceiverGone
	}
	r.receiverWord, r.slotName = field(rows, 0), field(rows, 5)
	r.senderHost, r.senderPort = field(rows, 2), field(rows, 3)
	if age, err := strconv.ParseInt(field(rows, 4), 10, 64); err == nil {
		r.lastMsgAge, r.lastMsgKnown = time.Duration(age)*time.Microsecond, true
	}
	if limit, err := strconv.ParseInt(field(rows, 6), 10, 64); err == nil {
		r.receiverTimeout = time.Duration(limit) * time.Millisecond
	}
}

func (r *reading) takeSync(rows [][]string) {
	for _, row := range rows {
		if len(row) == 1 && row[0] != "" {
			r.sync = append(r.sync, row[0])
		}
	}
}

func (r *reading) takeWaiting(rows [][]string) {
	n := field(rows, 0)
	r.waiting = n != "" && n != "0"
}

func (r *reading) takeReplication(rows [][]string) { r.mayReplicate = field(rows, 0) == "t" }

// identify takes the answer to IDENTIFY_SYSTEM.
func (r *reading) identify(rows [][]string) {
	if id, err := strconv.ParseUint(field(rows, 0), 10, 64); err == nil && r.system == 0 {
		r.system = id
	}
	r.exactTimeline = timeline(field(rows, 1), 10)
}

// field returns a column of the first row, or "" if there is none.
func field(rows [][]string, column int) string {
	if len(rows) == 0 || column >= len(rows[0]) {
		return ""
	}
	return rows[0][column]
}

// timeline parses a timeline; it returns 0 for anything else.
func timeline(text string, base int) uint32 {
	n, err := strconv.ParseUint(text, base, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// lsn parses the two hexadecimal halves of an LSN; it returns 0 for anything else.
func lsn(text string) uint64 {
	high, low, _ := strings.Cut(text, "/")
	h, err := strconv.ParseUint(high, 16, 32)
	if err != nil {
		return 0
	}
	l, err := strconv.ParseUint(low, 16, 32)
	if err != nil {
		return 0
	}
	return h<<32 | l
}
