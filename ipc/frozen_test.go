package ipc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// frozenNow has the messages as this version sends them. The files beside it are those of earlier releases.
const frozenNow = "testdata/frozen/2"

// howToFreeze is printed when the messages are no longer those of frozenNow.
const howToFreeze = `%s is not what this version sends. Different: %s
A worker of any earlier release goes on under the supervisor of this one. So a frozen message keeps its number and its
fields for ever; a field may be added if both sides can do without it.
If a release has %[1]s (git tag --contains), leave it as it is and raise the number in frozenNow; if none has it yet, delete
it. Then go test ./ipc -run TestFrozen -rewrite`

// TestFrozenMessagesAreUnderstoodForEver: a worker of any version that a file is of speaks with the
// supervisor of this version. A message that is decoded and encoded again has the same bytes, so no
// field was dropped, renamed or given another type; fields that are new are absent.
func TestFrozenMessagesAreUnderstoodForEver(t *testing.T) {
	if *rewrite {
		writeFrozen(t)
	}
	files, err := filepath.Glob("testdata/frozen/*")
	if err != nil || !slices.Contains(files, frozenNow) {
		t.Fatalf("%s is not among %q, %v", frozenNow, files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var n Number
			var name, packed string
			if _, err := fmt.Sscan(line, &n, &name, &packed); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			packet, err := hex.DecodeString(packed)
			if err != nil {
				t.Fatal(err)
			}
			if again := understood(t, n, name, packet); !bytes.Equal(again, packet) {
				t.Errorf("%s: %s has lost something: %x became %x", file, name, packet, again)
			}
		}
	}
	now, err := os.ReadFile(frozenNow)
	if err != nil {
		t.Fatal(err)
	}
	if names := different(string(now), frozen(t)); names != nil {
		t.Errorf(howToFreeze, frozenNow, strings.Join(names, ", "))
	}
}

// understood decodes a packet and encodes what it was. Number 0 is the state of a session, which travels in a file beside
// its message.
func understood(t *testing.T, n Number, name string, packet []byte) []byte {
	t.Helper()
	if n == 0 {
		s, err := UnpackSession(Secret(packet))
		if err != nil {
			t.Fatal(name, err)
		}
		return packedSession(t, s)
	}
	row := catalogue[n]
	if row == nil || !row.Frozen || row.Name != name {
		t.Errorf("message %d %s isn't frozen any more", n, name)
		return packet
	}
	_, to := connPair(t, row.From, row.To, onePhase(row))
	m := row.make()
	if err := to.decode(packet[headerSize:], m); err != nil {
		t.Fatalf("%s: %v", row.Name, err)
	}
	return rawPacket(t, m)
}

func packedSession(t *testing.T, s *SessionState) []byte {
	t.Helper()
	p, err := PackSession(s)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(p.Reveal())
}

// frozen is every frozen message of this version with all its fields, one a line.
func frozen(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, n := range numbers() {
		if catalogue[n].Frozen {
			fmt.Fprintf(&b, "%d %s %x\n", n, Name(n), rawPacket(t, sample(n)))
		}
	}
	state := &SessionState{}
	fill(reflect.ValueOf(state).Elem(), "s", 1)
	fmt.Fprintf(&b, "0 SessionState %x\n", packedSession(t, state))
	return b.String()
}

// different returns the names of the messages that only one of the texts has in this form.
func different(a, b string) []string {
	var names []string
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for _, line := range slices.Concat(x, y) {
		if slices.Contains(x, line) && slices.Contains(y, line) {
			continue
		}
		if f := strings.Fields(line); len(f) > 1 && !slices.Contains(names, f[1]) {
			names = append(names, f[1])
		}
	}
	return names
}

// writeFrozen makes frozenNow, but never in the place of a file that a release may have.
func writeFrozen(t *testing.T) {
	t.Helper()
	f, err := os.OpenFile(frozenNow, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if os.IsExist(err) {
		return // the comparison says what to do
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(frozen(t))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
