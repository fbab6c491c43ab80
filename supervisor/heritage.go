package supervisor

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pgagroal-go/pgagroal/internal/config"
	"github.com/pgagroal-go/pgagroal/internal/pool"
	"github.com/pgagroal-go/pgagroal/ipc"
	"github.com/pgagroal-go/pgagroal/supervisor/failover"
	"github.com/pgagroal-go/pgagroal/supervisor/listen"
)

// HandOverVersion is the version of the heritage that this program writes and reads. A field
// may be added without another version if a program that doesn't know it does no harm.
const HandOverVersion = 1

// heritage is everything that the program before passes on to the next one in this process.
// It is in a file without a name, which no other process can open: msgpack with named
// fields, because names of databases and users may be any bytes. Descriptors are
// numbers of this process; times are those of env.now, which goes on.
//
//	inherited   what is below
//	read again  configuration, credentials, certificates, the history, the log
//	begun anew  prober, console and a spawned runner, which are replaced; the starter, in the same process; the address of each
//	            server, which is resolved at once; what is known of secrets, of users that
//	            auth_query has found, and of names of addresses; what pgagroal-cli events shows
//	settled     rounds, looks at servers, saves, reloads, commands: none is under way
type heritage struct {
	Version  int           `msgpack:"version"`
	Build    string        `msgpack:"build"`
	Upgrades int           `msgpack:"upgrades"` // of this process, this one included
	Began    int64         `msgpack:"began"`    // when the process started, Unix time in milliseconds
	Now      time.Duration `msgpack:"now"`      // of env.now
	Boot     time.Duration `msgpack:"boot"`     // of the clock since boot, at the same time

	Sockets listen.Inherited  `msgpack:"sockets"`
	State   inheritedDir      `msgpack:"state_dir"`
	PIDFile string            `msgpack:"pid_file"`
	Console int               `msgpack:"console"` // standard error of the start, -1 for none
	Set     map[string]string `msgpack:"set"`

	Gen   uint64          `msgpack:"gen"`
	Salt  string          `msgpack:"salt"`
	Users []inheritedUser `msgpack:"users"`
	inheritedChildren
	inheritedClients
	Books    pool.Books        `msgpack:"books"`
	Names    []string          `msgpack:"servers"` // by the index that Books has
	Versions []string          `msgpack:"versions"`
	States   uint64            `msgpack:"server_states"` // number of the last ServerState
	Rounds   uint64            `msgpack:"rounds"`
	Fence    inheritedFence    `msgpack:"fence"`
	Machine  failover.Heritage `msgpack:"failover"`
	Base     []ipc.Packed      `msgpack:"base"`
	Figures  inheritedFigures  `msgpack:"figures"`
	Lines    []uint64          `msgpack:"lines"`

	Rules []inheritedRule   `msgpack:"rules"`     // by the index that Books has
	Hasty []inheritedHasty  `msgpack:"hasty"`     // requests that must not queue
	Where []inheritedServer `msgpack:"addresses"` // of the servers
	Usage map[string]int64  `msgpack:"usage"`     // processor time of processes that have ended, by name
}

// inheritedClients is what is known of clients beside their workers.
type inheritedClients struct {
	Waiting  []inheritedClient `msgpack:"waiting"`
	NextID   uint64            `msgpack:"next_client"`
	Named    []inheritedName   `msgpack:"named"`
	Pending  []uint64          `msgpack:"pending"`
	Disabled inheritedDisabled `msgpack:"disabled"`
	Pauses   []inheritedPause  `msgpack:"pauses"`
}

// inheritedRule identifies a line of pgagroal_databases.conf.
type inheritedRule struct {
	Database string `msgpack:"database"`
	User     string `msgpack:"user"`
}

type inheritedHasty struct {
	Worker int    `msgpack:"worker"`
	ID     uint64 `msgpack:"id"`
}

type inheritedServer struct {
	Network   string   `msgpack:"network"`
	Addresses []string `msgpack:"addresses"`
}

// inheritedChildren are the processes that live on.
type inheritedChildren struct {
	Starter inheritedStarter  `msgpack:"starter"`
	Workers []inheritedWorker `msgpack:"workers"`
}

// inheritedStarter is the starter of worker_user. PID is 0 if there is none.
type inheritedStarter struct {
	PID  int `msgpack:"pid"`
	Link int `msgpack:"link"`
}

type inheritedDir struct {
	Path   string `msgpack:"path"`
	Lock   int    `msgpack:"lock"` // -1 for none
	Ours   bool   `msgpack:"ours"`
	Usable bool   `msgpack:"usable"`
	Damage string `msgpack:"damage"`
}

// inheritedUser saves the derivation of a verifier, if the password is still the same.
type inheritedUser struct {
	Kind     ipc.UserKind `msgpack:"kind"`
	Name     string       `msgpack:"name"`
	Password string       `msgpack:"password"`
	Verifier string       `msgpack:"verifier"`
}

type inheritedWorker struct {
	Index   int           `msgpack:"index"`
	Place   int           `msgpack:"place"`
	PID     int           `msgpack:"pid"`
	Link    int           `msgpack:"link"`
	Theirs  int           `msgpack:"theirs"` // the worker's end of the link
	Born    time.Duration `msgpack:"born"`
	Pings   uint64        `msgpack:"pings"`
	Clients []uint64      `msgpack:"clients"`
	Sent    uint64        `msgpack:"sent"` // descriptors, see flight
	Read    uint64        `msgpack:"read"`
	Stats   []ipc.Packed  `msgpack:"stats"`
	Build   string        `msgpack:"build"`
	Why     string        `msgpack:"retired"`
	Since   time.Duration `msgpack:"retired_since"`
	Until   time.Duration `msgpack:"retired_until"`
	Moved   uint64        `msgpack:"moved"` // sessions that it has handed over, see passage
	Passes  uint64        `msgpack:"passes"`
	Leave   bool          `msgpack:"leave"`
	Leaving bool          `msgpack:"leaving"`
	Drained bool          `msgpack:"drained"`
}

type inheritedClient struct {
	FD      int    `msgpack:"fd"`
	Address string `msgpack:"address"`
}

type inheritedName struct {
	ID       uint64 `msgpack:"id"`
	User     string `msgpack:"user"`
	Database string `msgpack:"database"`
}

type inheritedDisabled struct {
	All    bool     `msgpack:"all"`
	Except []string `msgpack:"except"`
}

type inheritedPause struct {
	Database string        `msgpack:"database"`
	Began    time.Duration `msgpack:"began"`
	Until    time.Duration `msgpack:"until"` // 0 for no limit
}

type inheritedFence struct {
	Asked bool   `msgpack:"asked"`
	Epoch uint64 `msgpack:"epoch"`
	UpTo  uint64 `msgpack:"up_to"`
	Seq   uint64 `msgpack:"seq"`
}

type inheritedFigures struct {
	Fenced  uint64                   `msgpack:"fenced"`
	Runs    []ipc.RunCount           `msgpack:"runs"`
	Last    int64                    `msgpack:"last"` // Unix time, 0 for never
	Phase   string                   `msgpack:"phase"`
	Entered time.Duration            `msgpack:"entered"`
	Phases  map[string]time.Duration `msgpack:"phases"`
	Changes []ipc.PhaseChange        `msgpack:"changes"`
	Lasted  map[string]time.Duration `msgpack:"lasted"`
	Probes  []map[string]uint64      `msgpack:"probes"` // by server
	Took    []time.Duration          `msgpack:"took"`
}

// makeHeritage returns the heritage of this supervisor, which stands still unless it is for a
// trial: that looks at everything and uses no descriptor.
func (s *supervisor) makeHeritage(trial bool) (*heritage, error) {
	sockets, err := s.clients.ports.open.PassOn()
	if err != nil {
		return nil, err
	}
	u := &s.service.upgrade
	h := &heritage{
		Version: HandOverVersion, Build: s.build, Upgrades: u.count + 1, Began: u.began.UnixMilli(), Now: s.env.now(), Boot: s.env.sinceBoot(),
		Sockets: sockets, PIDFile: u.pidFile, Console: s.service.logging.console, Set: u.set, Gen: max(s.gen, s.reload.last), Salt: s.service.scramSalt.Reveal(),
		Books: s.ledger.Books(), Versions: s.servers.versions,
		States: s.servers.gen, Rounds: s.rounds.lastID, Lines: s.linesLogged(),
		Fence: inheritedFence{s.fence.asked, s.fence.epoch, s.fence.upTo, s.fence.seq},
	}
	if h.State, err = s.passOnDir(); err != nil {
		return nil, err
	}
	if st := s.workers.starter; st != nil {
		h.Starter.PID = st.PID()
		if h.Starter.Link, err = st.Link(); err != nil {
			return nil, fmt.Errorf("the link of the starter: %w", err)
		}
	}
	if m, ok := s.servers.machine.(*failover.Machine); ok {
		h.Machine = m.PassOn()
	}
	for _, c := range s.clients.waiting {
		h.Waiting = append(h.Waiting, inheritedClient(c))
	}
	for i, sv := range s.cfg.Servers {
		h.Names = append(h.Names, sv.Name)
		var w inheritedServer
		for _, a := range s.addressesOf(i) {
			w.Network, w.Addresses = a.network, append(w.Addresses, a.address)
		}
		h.Where = append(h.Where, w)
	}
	for _, l := range s.cfg.Limits {
		h.Rules = append(h.Rules, inheritedRule{l.Database.String(), l.User.String()})
	}
	for k := range s.leases.hasty {
		h.Hasty = append(h.Hasty, inheritedHasty{k.worker.index, k.id})
	}
	s.passOnClients(h)
	s.passOnUsers(h)
	s.passOnFigures(h)
	return h, s.passOnWorkers(h, trial)
}

func (s *supervisor) passOnDir() (inheritedDir, error) {
	d := inheritedDir{Path: s.dir.Path, Lock: -1, Ours: s.dir.Ours, Usable: s.dir.Usable, Damage: s.dir.Damage}
	if s.dir.Lock == nil {
		return d, nil
	}
	raw, err := s.dir.Lock.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { d.Lock = int(fd) })
	}
	return d, err
}

// passOnClients adds what is known of clients and of their limits.
func (s *supervisor) passOnClients(h *heritage) {
	h.NextID, h.Pending = s.clients.nextID, slices.Sorted(maps.Keys(s.clients.census.pending))
	for _, id := range slices.Sorted(maps.Keys(s.clients.census.named)) {
		n := s.clients.census.named[id]
		h.Named = append(h.Named, inheritedName{id, n.user, n.database})
	}
	h.Disabled = inheritedDisabled{s.clients.disabled.all, slices.Sorted(maps.Keys(s.clients.disabled.except))}
	for _, name := range slices.Sorted(maps.Keys(s.clients.pauses)) {
		p := s.clients.pauses[name]
		x := inheritedPause{Database: name, Began: p.began}
		if p.limit != nil {
			x.Until = p.limit.when
		}
		h.Pauses = append(h.Pauses, x)
	}
}

// passOnUsers adds the verifiers: to derive them takes a millisecond or two for each user.
func (s *supervisor) passOnUsers(h *heritage) {
	for _, m := range s.users {
		if m.Verifier == "" {
			continue
		}
		list := s.cfg.Users
		if m.Kind == ipc.UserFrontend {
			list = s.cfg.FrontendUsers
		}
		i := slices.IndexFunc(list, func(c config.Credential) bool { return c.Name == m.Name })
		if i >= 0 {
			h.Users = append(h.Users, inheritedUser{m.Kind, m.Name, list[i].Password.Reveal(), m.Verifier.Reveal()})
		}
	}
}

func (s *supervisor) passOnFigures(h *heritage) {
	f := &s.console.figures
	h.Figures = inheritedFigures{
		Fenced: f.fenced, Last: unixOf(f.last), Phase: f.phase, Entered: f.entered, Phases: f.phases, Changes: f.changes, Lasted: f.lasted,
	}
	for _, r := range f.allRuns() {
		if r.N > 0 {
			h.Figures.Runs = append(h.Figures.Runs, r)
		}
	}
	for _, sv := range f.servers {
		h.Figures.Probes = append(h.Figures.Probes, sv.probes)
		h.Figures.Took = append(h.Figures.Took, sv.took)
	}
	h.Usage = map[string]int64{}
	for name, p := range s.console.usage.last {
		h.Usage[name] = int64(s.console.usage.gone[name])
		if !slices.ContainsFunc(s.workers.slots, func(sl *slot) bool {
			return sl.child != nil && sl.child.started != nil && sl.child.started.pid == p.pid
		}) && p.pid != os.Getpid() && p.pid != h.Starter.PID {
			h.Usage[name] += int64(p.cpu) // another process takes its place
		}
	}
	for _, part := range s.console.base.Split() {
		if packed, err := ipc.Pack(&part); err == nil {
			h.Base = append(h.Base, packed)
		}
	}
}

func unixOf(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func (s *supervisor) passOnWorkers(h *heritage, trial bool) error {
	for _, sl := range s.workers.slots {
		c := sl.child
		if c == nil || trial && (c.state != childReady || c.drained) {
			continue
		}
		w := inheritedWorker{
			Index: c.index, Place: sl.place, PID: c.started.pid, Born: c.born, Pings: c.pings, Clients: slices.Sorted(maps.Keys(c.clients)),
			Sent: c.flight.sent, Read: c.flight.read, Stats: c.stats.last, Build: c.build, Leaving: c.leaving, Drained: c.drained,
		}
		if r := sl.retired; r != nil {
			w.Why, w.Since = r.why, r.since
			w.Moved, w.Passes, w.Leave = r.pass.moved, r.pass.until, r.pass.leave
			if r.limit != nil {
				w.Until = r.limit.when
			}
		}
		var err error
		if w.Link, w.Theirs, err = c.started.valve.descriptors(); err != nil {
			return fmt.Errorf("the link of worker %d: %w", c.index, err)
		}
		h.Workers = append(h.Workers, w)
	}
	return nil
}

// fds returns all descriptors that the next program needs.
func (h *heritage) fds() []int {
	fds := h.Sockets.FDs()
	for _, c := range h.Waiting {
		fds = append(fds, c.FD)
	}
	for _, w := range h.Workers {
		fds = append(fds, w.Link, w.Theirs)
	}
	for _, fd := range [...]int{h.State.Lock, h.Console, h.Starter.Link} {
		if fd > 2 {
			fds = append(fds, fd)
		}
	}
	return fds
}

// pack encodes the heritage. The loop calls it, because the heritage refers to what only the loop
// may read.
func (h *heritage) pack() (ipc.Packed, error) {
	b, err := ipc.Pack(h)
	if err != nil {
		return nil, fmt.Errorf("write what the next program needs: %w", err)
	}
	return b, nil
}

// written writes a heritage to a file without a name, and returns it.
func written(b ipc.Packed) (*os.File, error) {
	fd, err := unix.MemfdCreate("pgagroal-heritage", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("write what the next program needs: %w", err)
	}
	f := os.NewFile(uintptr(fd), "heritage")
	if _, err := f.Write(b); err != nil {
		f.Close()
		return nil, fmt.Errorf("write what the next program needs: %w", err)
	}
	return f, nil
}

// readHeritage reads what written has written, and closes the file.
func readHeritage(f *os.File) (*heritage, error) {
	defer f.Close()
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read what the program before has left: %w", err)
	}
	var v struct {
		Version int `msgpack:"version"`
	}
	b, err := io.ReadAll(f)
	if err == nil {
		err = ipc.Packed(b).Unpack(&v)
	}
	if err == nil && v.Version != HandOverVersion {
		err = fmt.Errorf("it is of version %d, and this program reads %d", v.Version, HandOverVersion)
	}
	h := &heritage{}
	if err == nil {
		err = ipc.Packed(b).Unpack(h)
	}
	if err != nil {
		return nil, fmt.Errorf("read what the program before has left: %w", err)
	}
	return h, nil
}
