package pool

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The simulation: workers as doc.go describes them, links that keep the order of messages
// but deliver them at random times, and a model that keeps its own count.
//
//	client -> simWorker --up--> Ledger --down--> simWorker -> client

type simLease struct {
	id   uint64
	rule int
	key  Key
	busy bool
	// unproven says that the client hasn't authenticated itself.
	unproven bool
}

type simWorker struct {
	waiting  map[uint64]simWaiter // asked for, not yet answered
	leases   []*simLease
	reclaims []Reclaim
	up       []func()
	down     []Effect
}

type simWaiter struct {
	key  Key
	rule int
}

type sim struct {
	t       *testing.T
	rnd     *rand.Rand
	ledger  *Ledger
	workers []*simWorker
	orphans []uint64
	opening map[uint64]int // leases given ahead that aren't open yet: the worker
	paused  []Pause        // of rules, after a failure
	calm    bool           // nothing fails any more
	aheads  int            // how many were opened ahead
	max     int
	rules   []Rule
	open    bool
	nextID  uint64

	// The model: what the Ledger must know, counted independently of it.
	held        map[uint64]simLease // by lease, orphans included
	queues      map[Key][]simRequest
	outstanding map[uint64]int // Reclaims by id: the worker
	grants      int
	moves       int
	handed      simLease // what was handed over last
	log         []Effect
	arrivals    int
	waiting     int
	reopened    int
}

type simRequest struct {
	worker  int
	id      uint64
	arrived int
}

func (r simRequest) is(worker int, id uint64) bool { return r.worker == worker && r.id == id }

type simKey struct {
	key      Key
	rule     int
	unproven bool
}

var simKeys = []simKey{
	{Key{Database: "none"}, NoRule, false},
	{Key{Database: "none", User: "other"}, NoRule, false},
	{Key{Database: "r0"}, 0, false},
	{Key{Database: "r0", User: "other"}, 0, false},
	{Key{Database: "r1"}, 1, false},
	{Key{Database: "none", User: "unknown"}, NoRule, true},
	{Key{Database: "r1", User: "unknown"}, 1, true},
}

func newSim(t *testing.T, seed uint64, workers int) *sim {
	s := &sim{
		t: t, rnd: rand.New(rand.NewPCG(seed, 1)), max: 8, open: true, opening: map[uint64]int{},
		rules: []Rule{{Max: 3, Key: Key{Database: "r0"}, Initial: 2, Min: 1}, {Max: 5}},
		held:  map[uint64]simLease{}, queues: map[Key][]simRequest{}, outstanding: map[uint64]int{},
	}
	s.ledger = NewLedger(s.max, s.rules)
	for range workers {
		s.workers = append(s.workers, &simWorker{waiting: map[uint64]simWaiter{}})
	}
	s.apply(s.ledger.SetTarget(0, 1, true))
	for i := range s.workers {
		s.apply(s.ledger.WorkerReady(i))
	}
	return s
}

// apply checks each effect against the model and sends it.
func (s *sim) apply(effects []Effect) {
	s.log = append(s.log, effects...)
	for _, e := range effects {
		switch e := e.(type) {
		case Grant:
			s.granted(e, false)
		case Ahead:
			s.givenAhead(e)
		case Move:
			s.moved(e)
		case Refuse:
			s.t.Fatalf("refused: %+v", e)
		case Reclaim:
			if _, ok := s.outstanding[e.ID]; ok {
				s.t.Fatalf("reclaim id %d used twice", e.ID)
			}
			s.outstanding[e.ID] = e.Worker
		case ReclaimCancel:
			if w, ok := s.outstanding[e.ID]; !ok || w != e.Worker {
				s.t.Fatalf("cancel of reclaim %d, which worker %d doesn't have", e.ID, e.Worker)
			}
			delete(s.outstanding, e.ID)
		}
		w := s.workers[e.Target()]
		w.down = append(w.down, e)
	}
	s.check()
}

func (s *sim) step() {
	i := s.rnd.IntN(len(s.workers))
	w := s.workers[i]
	if !s.open && s.rnd.IntN(30) == 0 {
		s.setOpen(true)
	}
	if len(s.paused) > 0 && s.rnd.IntN(30) == 0 {
		s.resume()
	}
	switch p := s.rnd.IntN(1000); {
	case p < 200:
		s.arrive(i)
	case p < 480:
		s.finish(i, w)
	case p < 700:
		s.deliverUp(w)
	case p < 920:
		s.deliverDown(i, w)
	case p < 980:
		s.abandon(i, w)
	case p < 994:
		s.giveBack(i, w, func(l *simLease) bool { return !l.busy })
	case p < 996:
		s.kill(i, w)
	case p < 998:
		s.endOrphan()
	case p < 999:
		s.proveAll(i, w)
	default:
		s.setOpen(false)
	}
}

func (s *sim) setOpen(open bool) {
	if open && s.rnd.IntN(2) == 0 {
		s.reopen()
	}
	s.open = open
	s.apply(s.ledger.SetTarget(0, 1, open))
}

// reopen puts another Ledger with the books of the closed one in its place, as an upgrade does.
func (s *sim) reopen() {
	s.ledger = Reopened(s.max, s.rules, s.ledger.Books(), func(_ Key, rule int) int { return rule })
	s.paused = nil
	for i := range s.workers {
		s.apply(s.ledger.WorkerReady(i))
	}
	s.checkCounts()
	s.reopened++
}

func (s *sim) arrive(i int) {
	w := s.workers[i]
	k := simKeys[s.rnd.IntN(len(simKeys))]
	for _, l := range w.leases {
		if !l.busy && l.key == k.key {
			l.busy = true
			return
		}
	}
	if len(w.waiting) >= 6 {
		return
	}
	s.nextID++
	id := s.nextID
	w.waiting[id] = simWaiter{k.key, k.rule}
	w.up = append(w.up, func() {
		s.queues[k.key] = append(s.queues[k.key], simRequest{i, id, s.arrivals})
		s.arrivals++
		s.waiting++
		if k.unproven {
			s.apply(s.ledger.RequestUnproven(i, id, k.key, k.rule, 0))
		} else {
			s.apply(s.ledger.Request(i, id, k.key, k.rule, 0))
		}
	})
}

// finish ends the use of a lease. If a reclaim wants the lease, it is given back. Otherwise a
// client of this worker that waits for the same pool gets it, or it becomes idle.
func (s *sim) finish(i int, w *simWorker) {
	for _, at := range s.rnd.Perm(len(w.leases)) {
		l := w.leases[at]
		if !l.busy {
			continue
		}
		if l.unproven {
			s.prove(i, l)
			return
		}
		l.busy = false
		if s.honour(i, w) {
			return
		}
		for _, id := range slices.Sorted(maps.Keys(w.waiting)) {
			if w.waiting[id].key == l.key {
				l.busy = true
				s.withdraw(i, w, id)
				return
			}
		}
		return
	}
}

// serveOwn gives an idle lease to a client of the worker that waits for its pool.
func (s *sim) serveOwn(i int, w *simWorker) bool {
	for _, l := range w.leases {
		for _, id := range slices.Sorted(maps.Keys(w.waiting)) {
			if !l.busy && w.waiting[id].key == l.key {
				l.busy = true
				s.withdraw(i, w, id)
				return true
			}
		}
	}
	return false
}

func (s *sim) abandon(i int, w *simWorker) {
	if ids := slices.Sorted(maps.Keys(w.waiting)); len(ids) > 0 {
		s.withdraw(i, w, ids[s.rnd.IntN(len(ids))])
	}
}

func (s *sim) withdraw(i int, w *simWorker, id uint64) {
	key := w.waiting[id].key
	delete(w.waiting, id)
	w.up = append(w.up, func() {
		if at := slices.IndexFunc(s.queues[key], func(r simRequest) bool { return r.is(i, id) }); at >= 0 {
			s.queues[key] = slices.Delete(s.queues[key], at, at+1)
			s.waiting--
		}
		s.apply(s.ledger.Abandon(i, id))
	})
}

// honour gives back the first idle lease that a reclaim names, or hands it over.
func (s *sim) honour(i int, w *simWorker) bool {
	for _, r := range w.reclaims {
		if !r.Own && s.rnd.IntN(4) > 0 && s.handOver(i, w, r) {
			return true
		}
		if s.giveBack(i, w, func(l *simLease) bool { return !l.busy && names(r, l.id) }) {
			return true
		}
	}
	return false
}

func names(r Reclaim, lease uint64) bool {
	return r.Leases == nil || slices.Contains(r.Leases, lease)
}

// giveBack returns a lease, which answers the first reclaim that names it.
func (s *sim) giveBack(i int, w *simWorker, which func(*simLease) bool) bool {
	at := slices.IndexFunc(w.leases, which)
	if at < 0 {
		return false
	}
	id := w.letGo(at).id
	w.up = append(w.up, func() {
		delete(s.held, id)
		effects, err := s.ledger.Return(i, id)
		if err != nil {
			s.t.Fatal(err)
		}
		s.apply(effects)
	})
	return true
}

// letGo removes a lease from the worker, which answers the first reclaim that names it.
func (w *simWorker) letGo(at int) *simLease {
	l := w.leases[at]
	w.leases = slices.Delete(w.leases, at, at+1)
	if r := slices.IndexFunc(w.reclaims, func(r Reclaim) bool { return names(r, l.id) }); r >= 0 {
		w.reclaims = slices.Delete(w.reclaims, r, r+1)
	}
	return l
}

// handOver hands an idle backend over to the client that waits for its pool.
func (s *sim) handOver(i int, w *simWorker, r Reclaim) bool {
	at := slices.IndexFunc(w.leases, func(l *simLease) bool { return !l.busy && l.key == r.Key && names(r, l.id) })
	if at < 0 {
		return false
	}
	l := w.letGo(at)
	w.up = append(w.up, func() {
		s.handed = s.held[l.id]
		delete(s.held, l.id)
		effects, err := s.ledger.HandOver(i, l.id, i)
		if err != nil {
			s.t.Fatal(err)
		}
		s.apply(effects)
	})
	return true
}

func (s *sim) deliverUp(w *simWorker) bool {
	if len(w.up) == 0 {
		return false
	}
	next := w.up[0]
	w.up = w.up[1:]
	next()
	return true
}

func (s *sim) deliverDown(i int, w *simWorker) bool {
	if len(w.down) == 0 {
		return false
	}
	e := w.down[0]
	w.down = w.down[1:]
	switch e := e.(type) {
	case Grant:
		held := s.held[e.Lease]
		_, busy := w.waiting[e.Request]
		delete(w.waiting, e.Request)
		w.leases = append(w.leases, &simLease{id: e.Lease, rule: held.rule, key: held.key, busy: busy, unproven: held.unproven})
		if !busy {
			s.giveBack(i, w, func(l *simLease) bool { return l.id == e.Lease })
		}
	case Move:
		held := s.held[e.Lease]
		_, busy := w.waiting[e.Request]
		delete(w.waiting, e.Request)
		w.leases = append(w.leases, &simLease{id: e.Lease, rule: held.rule, key: held.key, busy: busy})
		if !busy {
			s.honour(i, w)
		}
	case Ahead:
		s.openAhead(i, w, e)
	case Reclaim:
		w.reclaims = append(w.reclaims, e)
		s.honour(i, w)
	case ReclaimCancel:
		w.reclaims = slices.DeleteFunc(w.reclaims, func(r Reclaim) bool { return r.ID == e.ID })
	}
	return true
}

func (s *sim) kill(i int, w *simWorker) {
	for key, q := range s.queues {
		kept := slices.DeleteFunc(q, func(r simRequest) bool { return r.worker == i })
		s.waiting -= len(q) - len(kept)
		s.queues[key] = kept
	}
	for id, worker := range s.outstanding {
		if worker == i {
			delete(s.outstanding, id)
		}
	}
	before := s.ledger.Counts()
	orphans, effects := s.ledger.WorkerGone(i)
	if len(orphans) != before.Workers[i] {
		s.t.Fatalf("%d orphans of a worker with %d leases", len(orphans), before.Workers[i])
	}
	for _, o := range orphans {
		s.orphans = append(s.orphans, o.Lease)
	}
	for id, worker := range s.opening {
		if worker == i {
			delete(s.opening, id)
		}
	}
	*w = simWorker{waiting: map[uint64]simWaiter{}}
	s.apply(effects)
	s.apply(s.ledger.WorkerReady(i))
}

func (s *sim) endOrphan() bool {
	if len(s.orphans) == 0 {
		return false
	}
	id := s.orphans[0]
	s.orphans = s.orphans[1:]
	delete(s.held, id)
	s.apply(s.ledger.OrphanGone(id))
	return true
}

// prove reports that a server has let an unproven client in.
func (s *sim) prove(i int, l *simLease) {
	l.unproven = false
	id := l.id
	w := s.workers[i]
	w.up = append(w.up, func() {
		held := s.held[id]
		held.unproven = false
		s.held[id] = held
		effects, err := s.ledger.Opened(i, id, 1, "")
		if err != nil {
			s.t.Fatal(err)
		}
		s.apply(effects)
	})
}

func (s *sim) proveAll(i int, w *simWorker) {
	for _, l := range w.leases {
		if l.unproven {
			s.prove(i, l)
		}
	}
}

// quiet delivers all messages and then looks for idle leases that could serve a waiting
// client.
func (s *sim) quiet() {
	for moved := true; moved; {
		moved = false
		for i, w := range s.workers {
			for s.deliverUp(w) || s.deliverDown(i, w) || s.serveOwn(i, w) {
				moved = true
			}
		}
	}
	s.checkCounts()
	if !s.open {
		return
	}
	for _, k := range simKeys {
		if len(s.queues[k.key]) == 0 {
			continue
		}
		for i, w := range s.workers {
			for _, l := range w.leases {
				if !l.busy && s.mayHold(k) && (l.rule == k.rule || s.hasRoom(k.rule)) {
					s.t.Fatalf("%v waits while worker %d keeps lease %d idle; its reclaims: %v",
						k.key, i, l.id, w.reclaims)
				}
			}
		}
	}
}

// drain lets every client finish: nobody may be left waiting, no reclaim
// unanswered, no lease lost.
func (s *sim) drain() {
	if !s.open {
		s.setOpen(true)
	}
	s.calm = true
	for len(s.paused) > 0 {
		s.resume()
	}
	for moved := true; moved; {
		moved = s.endOrphan()
		s.quiet()
		for i, w := range s.workers {
			for _, l := range w.leases {
				if l.busy {
					s.finish(i, w)
					moved = true
					break
				}
			}
		}
	}
	if s.waiting > 0 || len(s.outstanding) > 0 {
		s.t.Fatalf("at rest %d wait and %d reclaims are neither answered nor cancelled", s.waiting, len(s.outstanding))
	}
	if r := s.rules[0]; s.used(0) < r.Min && len(s.held) < s.max || len(s.opening) > 0 {
		s.t.Fatalf("at rest the rule has %d leases, %d of all, and %d are being opened", s.used(0), len(s.held), len(s.opening))
	}
	kept := 0
	for i, w := range s.workers {
		kept += len(w.leases)
		if len(w.waiting) > 0 || len(w.reclaims) > 0 {
			s.t.Fatalf("at rest worker %d waits for %v and has reclaims %v", i, w.waiting, w.reclaims)
		}
	}
	if kept != s.ledger.Counts().Total {
		s.t.Fatalf("workers hold %d leases, the ledger counts %d", kept, s.ledger.Counts().Total)
	}
}

func TestRandomSchedules(t *testing.T) {
	const schedules, steps = 300, 2000
	aheads, reopened, ran := 0, 0, 0
	for seed := range uint64(schedules) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			s := newSim(t, seed, 1+int(seed%5))
			for step := range steps {
				s.step()
				if step%40 == 0 {
					s.quiet()
				}
			}
			s.drain()
			aheads, reopened, ran = aheads+s.aheads, reopened+s.reopened, ran+1
			if s.grants < 20 || len(s.workers) > 2 && s.moves == 0 {
				t.Fatalf("only %d grants and %d moves: the schedule tests nothing", s.grants, s.moves)
			}
		})
	}
	if ran == schedules && (aheads < schedules || reopened < schedules/2) {
		t.Errorf("only %d backends were opened ahead, and %d ledgers replaced: the schedules test nothing", aheads, reopened)
	}
}

// TestSameScheduleSameEffects guards the order of effects against that of maps.
func TestSameScheduleSameEffects(t *testing.T) {
	for seed := range uint64(10) {
		var logs [2][]Effect
		for i := range logs {
			s := newSim(t, seed, 4)
			for range 2000 {
				s.step()
			}
			logs[i] = s.log
		}
		if diff := cmp.Diff(logs[0], logs[1]); diff != "" {
			t.Fatalf("seed %d: %s", seed, diff)
		}
	}
}
