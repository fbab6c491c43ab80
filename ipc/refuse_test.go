package ipc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var allRoles = []Role{RoleSupervisor, RoleWorker, RoleRunner, RoleControl, RoleProber, RoleConsole}

// packet makes a packet of a number and a body.
func packet(n Number, body ...byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(n)), body...)
}

// countFDs returns how many descriptors this process has.
func countFDs(t testing.TB) int {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(dir)
}

// refused sends a packet, which the Conn must refuse for the given reason, with
// every descriptor closed.
func refused(t *testing.T, c *Conn, raw int, p []byte, why string, fds ...int) {
	t.Helper()
	before := countFDs(t)
	sendRaw(t, raw, p, fds...)
	env, err := c.Receive()
	if !Violation(err) || !strings.Contains(err.Error(), why) {
		t.Errorf("packet % x: error %v, want a violation: %s", p[:min(len(p), 16)], err, why)
	}
	if env.Message != nil || env.FDs != nil {
		t.Errorf("a refused packet gave %+v", env)
	}
	if now := countFDs(t); now != before {
		t.Errorf("%d descriptors are open after the refusal, before %d", now, before)
	}
}

func TestWrongRoleIsRefusedBeforeDecoding(t *testing.T) {
	garbage := []byte{0xc1, 0xc1}
	for _, n := range numbers() {
		row := catalogue[n]
		for _, self := range allRoles {
			for _, peer := range allRoles {
				if row.From == peer && row.To == self {
					continue
				}
				c, raw := link(t, self, peer, onePhase(row))
				refused(t, c, raw, packet(n, garbage...), "not a message from", openFDs(t, row.FDs)...)
				c.Close()
			}
		}
	}
}

func TestWrongPhaseIsRefusedBeforeDecoding(t *testing.T) {
	for _, n := range numbers() {
		row := catalogue[n]
		for _, phase := range []Phase{PhaseSetup, PhaseRunning} {
			if row.Phase&phase != 0 {
				continue
			}
			c, raw := link(t, row.To, row.From, phase)
			refused(t, c, raw, packet(n, 0xc1), "not allowed in phase "+phase.String(), openFDs(t, row.FDs)...)
		}
	}
}

func TestWrongNumberOfDescriptorsIsRefusedBeforeDecoding(t *testing.T) {
	for _, n := range numbers() {
		row := catalogue[n]
		c, raw := link(t, row.To, row.From, onePhase(row))
		for fds := range MaxFDs + 2 {
			if !row.carries(fds) {
				refused(t, c, raw, packet(n, 0xc1), "descriptors instead of", openFDs(t, fds)...)
			}
		}
		refused(t, c, raw, packet(n, 0x80), "larger than allowed", openFDs(t, 20)...)
	}
}

func TestUnknownNumberIsRefused(t *testing.T) {
	c, raw := link(t, RoleSupervisor, RoleWorker, PhaseRunning)
	for n := range 200 {
		if _, ok := Lookup(Number(n)); !ok {
			refused(t, c, raw, packet(Number(n), 0x80), "no such message", openFDs(t, 1)...)
		}
	}
	refused(t, c, raw, packet(0xffff, 0x80), "no such message")
	refused(t, c, raw, []byte{0}, "without a header", openFDs(t, 2)...)
}

func TestEmptyPacketWithDescriptorsLeaksNone(t *testing.T) {
	c, raw := link(t, RoleSupervisor, RoleWorker, PhaseRunning)
	refused(t, c, raw, nil, "without a header", openFDs(t, 1)...)
}

func TestTruncatedAtEveryByteIsRefused(t *testing.T) {
	for _, n := range numbers() {
		row := catalogue[n]
		c, raw := link(t, row.To, row.From, onePhase(row))
		whole := rawPacket(t, sample(n))
		fds := openFDs(t, row.FDs)
		for cut := 1; cut < len(whole); cut++ {
			refused(t, c, raw, whole[:cut], "", fds...)
		}
		refused(t, c, raw, append(whole, 0xc0), "1 bytes after the message", fds...)
		sendRaw(t, raw, whole, fds...)
		env, err := c.Receive()
		if err != nil {
			t.Fatalf("%s: whole again after the refusals: %v", row.Name, err)
		}
		if diff := cmp.Diff(sample(n), env.Message); diff != "" {
			t.Errorf("%s: a refused packet left something behind:\n%s", row.Name, diff)
		}
		env.CloseFDs()
	}
}

func TestOversizeIsRefused(t *testing.T) {
	c, raw := link(t, RoleSupervisor, RoleWorker, PhaseRunning)
	body := func(size int) []byte {
		b := packet(21, 0x81, 0xa4, 't', 'e', 'x', 't', 0xdb)
		b = binary.BigEndian.AppendUint32(b, uint32(size-len(b)-4))
		return append(b, bytes.Repeat([]byte{'x'}, size-len(b))...)
	}
	sendRaw(t, raw, body(MaxPacket))
	if _, err := c.Receive(); err != nil {
		t.Errorf("the largest packet: %v", err)
	}
	for _, size := range []int{MaxPacket + 1, MaxPacket + 2, 2 * MaxPacket} {
		refused(t, c, raw, body(size), "larger than allowed")
	}
	w, _ := link(t, RoleWorker, RoleSupervisor, PhaseRunning)
	if err := w.Send(&Hint{Text: strings.Repeat("x", MaxPacket)}); err == nil {
		t.Error("Send took what Receive refuses")
	}
	if err := w.Send(&Hint{Text: "short"}); err != nil {
		t.Errorf("after an oversized message: %v", err)
	}
}

func TestLongestPasswordFitsIntoAPacket(t *testing.T) {
	sup, wrk := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	password := Secret(strings.Repeat("x", 65530)) // as many bytes as PostgreSQL takes
	if err := sup.Send(&SecretAnswer{ID: math.MaxUint64, Secret: password}); err != nil {
		t.Fatal(err)
	}
	env, err := wrk.Receive()
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := env.Message.(*SecretAnswer); !ok || got.Secret != password {
		t.Error("it comes as another message")
	}
}

func TestUnknownFieldsAreIgnoredAndMissingOnesZero(t *testing.T) {
	for _, n := range numbers() {
		row := catalogue[n]
		c, raw := link(t, row.To, row.From, onePhase(row))
		// {"later": [{"x": "y"}, nil, 2.5], "": b"\x01"}
		body := []byte{
			0x82, 0xa5, 'l', 'a', 't', 'e', 'r', 0x93, 0x81, 0xa1, 'x', 0xa1, 'y', 0xc0,
			0xca, 0x40, 0x20, 0, 0, 0xa0, 0xc4, 1, 1,
		}
		sendRaw(t, raw, packet(n, body...), openFDs(t, row.FDs)...)
		env, err := c.Receive()
		if err != nil {
			t.Errorf("%s: %v", row.Name, err)
			continue
		}
		env.CloseFDs()
		if !reflect.ValueOf(env.Message).Elem().IsZero() {
			t.Errorf("%s: %+v, want the zero value", row.Name, env.Message)
		}
	}
}

var hostile = map[string][]byte{
	"nothing":               {},
	"not a map":             {0x90},
	"nil":                   {0xc0},
	"code that is not used": {0x81, 0xa1, 'x', 0xc1},
	"extension":             {0x81, 0xa1, 'x', 0xd4, 0xff, 0},
	"key that is a number":  {0x81, 1, 1},
	"huge map":              {0xdf, 0xff, 0xff, 0xff, 0xff},
	"huge array of structs": append([]byte{0x81, 0xa7}, "results\xdd\xff\xff\xff\xff\x80"...),
	"huge map of strings":   append([]byte{0x81, 0xa3}, "env\xdf\xff\xff\xff\xff\xa0\xa0"...),
	"huge string":           append([]byte{0x81, 0xa5}, "error\xdb\xff\xff\xff\xff"...),
	"huge bytes":            append([]byte{0x81, 0xa4}, "data\xc6\xff\xff\xff\xff"...),
	"huge unknown array":    append([]byte{0x81, 0xa1}, "x\xdd\x7f\xff\xff\xff"...),
	"deep nesting":          append(append([]byte{0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 60000)...), 0xc0),
	"wrong type":            append([]byte{0x81, 0xa7}, "results\xa1x"...),
}

func TestHostileBodiesAreRefusedWithoutAllocating(t *testing.T) {
	for _, n := range []Number{81, 82, 90, 91, 61} {
		row := catalogue[n]
		c, raw := link(t, row.To, row.From, onePhase(row))
		for name, body := range hostile {
			if name == "wrong type" && n != 81 {
				continue
			}
			t.Run(row.Name+"/"+name, func(t *testing.T) {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				refused(t, c, raw, packet(n, body...), "")
				runtime.ReadMemStats(&after)
				if grew := after.TotalAlloc - before.TotalAlloc; grew > 256<<10 {
					t.Errorf("%d bytes were allocated for a packet of %d", grew, len(body)+headerSize)
				}
			})
		}
	}
}

// TestDenseArrayCostsLittle is the worst that is well-formed: as many elements
// of the largest kind as a packet has bytes.
func TestDenseArrayCostsLittle(t *testing.T) {
	c, raw := link(t, RoleSupervisor, RoleRunner, PhaseRunning)
	const elements = 65000
	body := append([]byte{0x81, 0xa7}, "results\xdd"...)
	body = binary.BigEndian.AppendUint32(body, elements)
	body = append(body, bytes.Repeat([]byte{0x80}, elements)...)
	sendRaw(t, raw, packet(81, body...))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := c.Receive()
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 64<<20 {
		t.Errorf("%d bytes were allocated (%v)", grew, err)
	}
}

func TestEndOfTheLinkIsEOF(t *testing.T) {
	c, raw := link(t, RoleSupervisor, RoleWorker, PhaseRunning)
	sendRaw(t, raw, packet(4, 0x80))
	if err := unix.Shutdown(raw, unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(); err != nil {
		t.Fatalf("what was sent before the end: %v", err)
	}
	if _, err := c.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want EOF", err)
	}
}

func TestPeerThatLeavesWithUnreadPacketsIsEOF(t *testing.T) {
	a, b := connPair(t, RoleSupervisor, RoleWorker, PhaseRunning)
	if err := a.Send(&Ping{ID: 1}); err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := a.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("error %v, want EOF", err)
	}
}

func TestSendRefusesWhatTheCatalogueForbids(t *testing.T) {
	c, _ := link(t, RoleSupervisor, RoleWorker, PhaseSetup)
	if err := c.Send(&Ping{}); err == nil {
		t.Error("Ping was sent before the link was running")
	}
	c.SetPhase(PhaseRunning)
	for name, send := range map[string]func() error{
		"wrong sender":       func() error { return c.Send(&Pong{}) },
		"descriptor missing": func() error { return c.Send(&NewClient{}) },
		"descriptor extra":   func() error { return c.Send(&Ping{}, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			_ = send()
		})
	}
}
