package ipc

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// sample returns message n with every field set: the same bytes each time, and
// a field that is added later shows in the golden file.
func sample(n Number) Message {
	m := catalogue[n].make()
	fill(reflect.ValueOf(m).Elem(), "m", 1)
	return m
}

func fill(v reflect.Value, name string, i int) {
	switch v.Kind() {
	case reflect.Struct:
		for f := range v.NumField() {
			fill(v.Field(f), v.Type().Field(f).Tag.Get("msgpack"), i+f)
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("%s-%d", name, i))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(-i))
	case reflect.Uint8:
		v.SetUint(uint64(i))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(1000 * i))
	case reflect.Float64:
		v.SetFloat(float64(i) + 0.5)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(fmt.Sprintf("%s-%d", name, i)))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), name, i)
		fill(v.Index(1), name, i+1)
	case reflect.Map:
		// One entry: the order of more is not fixed.
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, "key", i)
		fill(value, name, i)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	default:
		panic("sample: no rule for " + v.Kind().String())
	}
}

// numbers returns the catalogue's numbers in order.
func numbers() []Number {
	var all []Number
	for n := range catalogue {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// link returns a Conn and the raw other end of its socket.
func link(t testing.TB, self, peer Role, phase Phase) (*Conn, int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := FromFD(fds[0], self, peer, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetPhase(phase)
	t.Cleanup(func() {
		c.Close()
		unix.Close(fds[1])
	})
	return c, fds[1]
}

// keptPair is a connPair in PhaseSetup with another descriptor of to's end.
func keptPair(t testing.TB, from, to Role) (ours, child *Conn, theirs *os.File) {
	t.Helper()
	ours, theirs, err := Pair(from, to, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	fd, err := unix.Dup(int(theirs.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	child, err = FromFD(fd, to, from, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ours, child, theirs
}

// connPair returns both ends as Conns: that of from and that of to.
func connPair(t testing.TB, from, to Role, phase Phase) (*Conn, *Conn) {
	t.Helper()
	a, b, theirs := keptPair(t, from, to)
	theirs.Close()
	a.SetPhase(phase)
	b.SetPhase(phase)
	t.Cleanup(func() {
		a.Close()
		b.Close()
	})
	return a, b
}

// onePhase returns a phase in which a row is allowed.
func onePhase(r *Row) Phase {
	if r.Phase&PhaseRunning != 0 {
		return PhaseRunning
	}
	return PhaseSetup
}

// rawPacket returns the bytes that Send writes for a message.
func rawPacket(t testing.TB, m Message) []byte {
	t.Helper()
	row := catalogue[m.Number()]
	c, raw := link(t, row.From, row.To, onePhase(row))
	if err := c.Send(m, openFDs(t, row.FDs)...); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, MaxPacket)
	n, _, _, _, err := unix.Recvmsg(raw, buf, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

// openFDs returns n descriptors that are closed at the end of the test.
func openFDs(t testing.TB, n int) []int {
	t.Helper()
	var fds []int
	for range n {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds = append(fds, fd)
	}
	return fds
}

// sendRaw writes a packet past all checks.
func sendRaw(t testing.TB, raw int, packet []byte, fds ...int) {
	t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(raw, packet, oob, nil, 0); err != nil {
		t.Fatal(err)
	}
}
