package ipc

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var rewrite = flag.Bool("rewrite", false, "write the golden file anew")

const goldenFile = "testdata/messages.golden"

// TestGoldenBytes fails when the bytes of any message change. A changed line is
// a changed protocol: raise Version or think again.
func TestGoldenBytes(t *testing.T) {
	var got bytes.Buffer
	for _, n := range numbers() {
		fmt.Fprintf(&got, "%d %s\n%s\n", n, Name(n), hex.Dump(rawPacket(t, sample(n))))
	}
	state := &SessionState{}
	fill(reflect.ValueOf(state).Elem(), "s", 1)
	packed, err := PackSession(state)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&got, "SessionState %d\n%s\n", SessionVersion, hex.Dump([]byte(packed)))
	if *rewrite {
		if err := os.WriteFile(goldenFile, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("the bytes changed (-golden +now):\n%s", diff)
	}
}

func TestEveryMessageCrossesItsLink(t *testing.T) {
	for _, n := range numbers() {
		row := catalogue[n]
		t.Run(row.Name, func(t *testing.T) {
			from, to := connPair(t, row.From, row.To, onePhase(row))
			for _, m := range []Message{sample(n), row.make()} {
				fds := openFDs(t, row.FDs)
				if err := from.Send(m, fds...); err != nil {
					t.Fatal(err)
				}
				env, err := to.Receive()
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(m, env.Message); diff != "" {
					t.Errorf("-sent +received:\n%s", diff)
				}
				checkReceived(t, fds, env.FDs)
				env.CloseFDs()
			}
		})
	}
}

func checkReceived(t *testing.T, sent, got []int) {
	t.Helper()
	if len(got) != len(sent) {
		t.Fatalf("%d descriptors, want %d", len(got), len(sent))
	}
	for i, fd := range got {
		var a, b unix.Stat_t
		if unix.Fstat(sent[i], &a) != nil || unix.Fstat(fd, &b) != nil || a.Ino != b.Ino || a.Dev != b.Dev {
			t.Errorf("descriptor %d is another file", i)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("descriptor %d is not close-on-exec (%v)", i, err)
		}
	}
}

func TestCatalogueIsConsistent(t *testing.T) {
	for _, n := range numbers() {
		row := catalogue[n]
		if name := reflect.TypeOf(row.make()).Elem().Name(); name != row.Name {
			t.Errorf("row %d: name %s, type %s", n, row.Name, name)
		}
		if row.Coalesce && row.FDs > 0 {
			t.Errorf("%s: a replaced snapshot would lose its descriptors", row.Name)
		}
		if row.From == row.To || row.Phase == 0 {
			t.Errorf("%s: from %s to %s in phase %s", row.Name, row.From, row.To, row.Phase)
		}
		if row.Reply == 0 {
			continue
		}
		reply, ok := Lookup(row.Reply)
		if !ok || reply.From != row.To || reply.To != row.From || reply.Phase&row.Phase != row.Phase {
			t.Errorf("%s: %s can't answer it", row.Name, Name(row.Reply))
		}
	}
}

func TestEveryFieldHasItsName(t *testing.T) {
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(ty reflect.Type) {
		switch ty.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(ty.Elem())
		case reflect.Struct:
			if seen[ty] {
				return
			}
			seen[ty] = true
			names := map[string]bool{}
			for i := range ty.NumField() {
				f := ty.Field(i)
				tag := f.Tag.Get("msgpack")
				if tag == "" || names[tag] || !f.IsExported() {
					t.Errorf("%s.%s: tag %q", ty, f.Name, tag)
				}
				names[tag] = true
				walk(f.Type)
			}
		}
	}
	for _, n := range numbers() {
		walk(reflect.TypeOf(catalogue[n].make()))
	}
}
