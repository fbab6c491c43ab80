package ipc

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// frozenNow is the file of the present version of the hand-over. -rewrite makes it; the files of
// earlier versions never change.
const frozenNow = "testdata/frozen/1"

// TestFrozenMessagesAreUnderstoodForEver: a worker of any version that a file is of speaks with the
// supervisor of this version. A message that is decoded and encoded again has the same bytes, so no
// field was dropped, renamed or given another type; fields that are new are absent.
func TestFrozenMessagesAreUnderstoodForEver(t *testing.T) {
	if *rewrite {
		writeFrozen(t)
	}
	files, err := filepath.Glob("testdata/frozen/*")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no frozen messages", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[Number]bool{}
		for line := range strings.Lines(string(text)) {
			var n Number
			var name, packed string
			if _, err := fmt.Sscan(line, &n, &name, &packed); err != nil {
				t.Fatalf("%s: %q: %v", file, line, err)
			}
			seen[n] = true
			packet, err := hex.DecodeString(packed)
			if err != nil {
				t.Fatal(err)
			}
			if row := catalogue[n]; row == nil || !row.Frozen || row.Name != name {
				t.Errorf("%s: message %d %s isn't frozen any more", file, n, name)
				continue
			}
			if again := understood(t, n, packet); !bytes.Equal(again, packet) {
				t.Errorf("%s: %s has lost something: %x became %x", file, name, packet, again)
			}
		}
		for n, row := range catalogue {
			if file == frozenNow && row.Frozen && !seen[n] {
				t.Errorf("%s is frozen, and %s doesn't have it", row.Name, file)
			}
		}
	}
}

// understood decodes a packet and encodes what it was.
func understood(t *testing.T, n Number, packet []byte) []byte {
	t.Helper()
	row := catalogue[n]
	_, to := connPair(t, row.From, row.To, onePhase(row))
	m := row.make()
	if err := to.decode(packet[headerSize:], m); err != nil {
		t.Fatalf("%s: %v", row.Name, err)
	}
	return rawPacket(t, m)
}

func writeFrozen(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	for _, n := range numbers() {
		if catalogue[n].Frozen {
			fmt.Fprintf(&b, "%d %s %x\n", n, Name(n), rawPacket(t, sample(n)))
		}
	}
	if err := os.MkdirAll(filepath.Dir(frozenNow), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(frozenNow, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
