package console

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/pgagroal-go/pgagroal/ipc"
)

// maxPools is how many pools the document has. Those with clients that wait come first.
const maxPools = 200

// head begins the document; what the supervisor says follows, and then tail.
type head struct {
	ServerVersion string
	Timestamp     string // RFC 3339, with milliseconds
}

// tail is what this process knows of a snapshot. Fields that pgagroal-cli has, too, have its
// names.
type tail struct {
	ActiveConnections int64
	TotalConnections  int64
	Clients           map[string]int64 // by state, in the words of the metric clients
	Limits            []limit
	Pools             []poolLine
	PoolsLeftOut      int
	Replication       map[string]replication // by server
	Leases            ipcLeases
	Phases            []string // all that there are
	Changes           []change // of the phase, the oldest first
	HeldSeconds       float64
	LastFailover      string `json:",omitempty"` // RFC 3339: when failover_script ended last with success
	Processes         []process
	Certificates      []certificateEnd
	Sample            *sample `json:",omitempty"`
}

type limit struct {
	Database, Username                                                    string
	ActiveConnections, MaxConnections, InitialConnections, MinConnections int
	Waiting                                                               int
}

type poolLine struct {
	Database, Username, Server string
	Active, Idle, Waiting      int
}

// replication is what is known of a server beside its status. What is unknown is absent.
type replication struct {
	LagSeconds   *float64 `json:",omitempty"`
	ProbeAge     *float64 `json:",omitempty"`
	ProbeSeconds *float64 `json:",omitempty"` // of all probes, on average
	Timeline     uint32   `json:",omitempty"`
}

type ipcLeases struct{ Used, Orphaned, Unproven, Waiting int }

type change struct {
	Time   string // RFC 3339, with milliseconds
	Phase  string
	Reason string `json:",omitempty"`
}

type process struct {
	Process       string
	CPUSeconds    float64
	ResidentBytes int64    `json:",omitempty"` // unknown if /proc hides it
	AnswerSeconds *float64 `json:",omitempty"` // of a worker
}

type certificateEnd struct {
	Server string // pgagroal, metrics, or the name of a server
	Ends   string // RFC 3339
}

// stamp writes a time with milliseconds, in UTC: the browser knows where its user is.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

var errNoDocument = errors.New("pgagroal has sent no document for the web console")

// document returns a snapshot as one JSON object in one line.
func (p *web) document(s *snapshot, total *ipc.WorkerStats, x *sample) ([]byte, error) {
	if len(s.document) < 3 || s.document[0] != '{' || s.document[len(s.document)-1] != '}' {
		return nil, errNoDocument
	}
	first, err := encode(head{ServerVersion: p.about.build, Timestamp: stamp(s.taken)})
	if err != nil {
		return nil, err
	}
	last, err := encode(p.tail(s, total, x))
	if err != nil {
		return nil, err
	}
	return slices.Concat(first[:len(first)-1], []byte{','}, s.document[1:len(s.document)-1], []byte{','}, last[1:]), nil
}

// encode writes JSON without a line break, and as pgagroal-cli shows it.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("write the document: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

func (p *web) tail(s *snapshot, total *ipc.WorkerStats, x *sample) tail {
	b, f := s.begin, &s.begin.Failover
	t := tail{
		ActiveConnections: total.Gauges["active_connections"], TotalConnections: total.Gauges["total_connections"],
		Clients: s.clientStates(total.Gauges), Limits: []limit{}, Replication: map[string]replication{}, Phases: f.Phases, Changes: []change{},
		Leases:      ipcLeases{b.Leases.Used, b.Leases.Orphans, b.Leases.Unproven, b.Leases.Waiting},
		HeldSeconds: float64(f.HeldMS) / 1e3, Processes: []process{}, Certificates: []certificateEnd{}, Sample: x,
	}
	if f.Last > 0 {
		t.LastFailover = stamp(time.Unix(f.Last, 0))
	}
	for _, l := range s.limits {
		t.Limits = append(t.Limits, limit{l.Database, l.User, l.Used, l.Max, l.Initial, l.Min, l.Waiting})
	}
	for _, sv := range s.servers {
		t.Replication[sv.Name] = replicationOf(sv)
	}
	for _, c := range f.Changes {
		t.Changes = append(t.Changes, change{stamp(time.UnixMilli(c.WallMS)), c.Phase, c.Reason})
	}
	for _, x := range s.processes {
		t.Processes = append(t.Processes, process{x.Name, x.CPU, x.Resident, known(x.AnswerUS, 1e6)})
	}
	for _, c := range p.about.certs {
		if c.leaf != nil && len(t.Certificates) < maxPools {
			t.Certificates = append(t.Certificates, certificateEnd{c.scope, stamp(c.leaf.NotAfter)})
		}
	}
	t.Pools, t.PoolsLeftOut = s.poolLines()
	return t
}

// known turns a whole number into one of seconds, -1 into nil.
func known(v int64, unit float64) *float64 {
	if v < 0 {
		return nil
	}
	f := float64(v) / unit
	return &f
}

func replicationOf(s *ipc.SnapshotServer) replication {
	r := replication{LagSeconds: known(s.LagMS, 1e3), ProbeAge: known(s.SeenMS, 1e3), Timeline: s.Timeline}
	n := uint64(0)
	for _, probes := range s.Probes {
		n += probes
	}
	if n > 0 {
		each := float64(s.ProbeUS) / float64(n) / 1e6
		r.ProbeSeconds = &each
	}
	return r
}

// poolLines returns the pools with the most to do, and how many others there are.
func (s *snapshot) poolLines() (lines []poolLine, leftOut int) {
	all := s.pools()
	slices.SortStableFunc(all, func(a, b ipc.PoolFigures) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Active, a.Active), cmp.Compare(b.Idle, a.Idle))
	})
	lines = []poolLine{}
	for _, f := range all[:min(len(all), maxPools)] {
		lines = append(lines, poolLine{f.Database, f.User, s.serverName(f.Server), f.Active, f.Idle, f.Waiting})
	}
	return lines, len(all) - len(lines)
}

// onDocument answers with everything but the history.
func (p *web) onDocument(w http.ResponseWriter, r *http.Request) {
	s, err := p.feed.snapshot(r.Context())
	if err != nil {
		p.unavailable(w, err)
		return
	}
	f := p.hub.frame(s)
	if f.err != nil {
		p.unavailable(w, f.err)
		return
	}
	answerJSON(w, f.status)
}

// onHistory answers with the history, as failover history does.
func (p *web) onHistory(w http.ResponseWriter, r *http.Request) {
	s, err := p.feed.snapshot(r.Context())
	if err != nil {
		p.unavailable(w, err)
		return
	}
	text, err := encode(struct {
		ServerVersion string
		History       []json.RawMessage
	}{p.about.build, append([]json.RawMessage{}, s.history...)})
	if err != nil {
		p.unavailable(w, err)
		return
	}
	answerJSON(w, text)
}

func answerJSON(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(text[:len(text):len(text)], '\n'))
}
