package statedir

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/pgagroal-go/pgagroal/supervisor/failover"
)

// written returns a directory with a record of epoch 9 and what its file holds.
func written(t *testing.T) (dir string, file []byte) {
	t.Helper()
	dir = t.TempDir()
	record, err := failover.EncodeRecord(failover.Record{Epoch: 9})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteRecord(dir, record); err != nil {
		t.Fatal(err)
	}
	file, err = os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		t.Fatal(err)
	}
	return dir, file
}

func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// damages are ways in which a file can be wrong.
func damages(file []byte) map[string][]byte {
	flipped := bytes.Replace(file, []byte(`"epoch": 9`), []byte(`"epoch": 8`), 1)
	return map[string][]byte{
		"empty": {}, "cut": file[:len(file)/2], "zeros": make([]byte, len(file)), "flipped": flipped,
		"other version": seal([]byte(`{"version": 99}`)), "half of it gone": bytes.Replace(file, []byte(`"record"`), []byte(`"recond"`), 1),
	}
}

// TestDamagedRecordIsKeptAndItsCopyUsed: every damage is noticed, and the damaged bytes are kept.
func TestDamagedRecordIsKeptAndItsCopyUsed(t *testing.T) {
	_, whole := written(t)
	for what, bad := range damages(whole) {
		dir, _ := written(t)
		put(t, dir, recordName, bad)
		r, damage := ReadRecord(dir)
		if r == nil || r.Epoch != 9 || damage == nil || !strings.Contains(damage.Error(), copyName+" is used instead") {
			t.Errorf("%s: %+v, %v", what, r, damage)
		}
		if kept, err := os.ReadFile(filepath.Join(dir, recordName+badSuffix)); err != nil || !bytes.Equal(kept, bad) {
			t.Errorf("%s: kept %q, %v", what, kept, err)
		}
	}
}

// TestRecordWithoutACopyIsNoFirstStart: with a damaged record and no copy nobody knows the primary.
func TestRecordWithoutACopyIsNoFirstStart(t *testing.T) {
	_, whole := written(t)
	for what, bad := range damages(whole) {
		for _, copied := range [][]byte{nil, bad} {
			dir, _ := written(t)
			put(t, dir, recordName, bad)
			if err := os.Remove(filepath.Join(dir, copyName)); err != nil {
				t.Fatal(err)
			}
			if copied != nil {
				put(t, dir, copyName, copied)
			}
			if r, damage := ReadRecord(dir); r != nil || damage == nil {
				t.Errorf("%s: %+v, %v", what, r, damage)
			}
		}
	}
}

func TestRecordThatIsGoneIsReadFromItsCopy(t *testing.T) {
	dir, _ := written(t)
	if err := os.Remove(filepath.Join(dir, recordName)); err != nil {
		t.Fatal(err)
	}
	if r, damage := ReadRecord(dir); r == nil || r.Epoch != 9 || damage == nil {
		t.Errorf("%+v, %v", r, damage)
	}
}

func TestDamagedCopyOfAWholeRecordMattersToNobody(t *testing.T) {
	dir, _ := written(t)
	put(t, dir, copyName, []byte("nonsense"))
	if r, damage := ReadRecord(dir); r == nil || damage != nil {
		t.Errorf("%+v, %v", r, damage)
	}
}

func TestRecordOfAnEarlierReleaseIsRead(t *testing.T) {
	dir := t.TempDir()
	record, err := failover.EncodeRecord(failover.Record{Epoch: 3})
	if err != nil {
		t.Fatal(err)
	}
	put(t, dir, recordName, record)
	if r, damage := ReadRecord(dir); r == nil || r.Epoch != 3 || damage != nil {
		t.Errorf("%+v, %v", r, damage)
	}
}

// TestNoFileIsWrittenThroughALink: otherwise a link in state_dir could make pgagroal overwrite any file.
func TestNoFileIsWrittenThroughALink(t *testing.T) {
	for _, name := range []string{recordName, recordName + ".tmp", copyName, copyName + ".tmp", historyName} {
		dir := t.TempDir()
		victim := filepath.Join(t.TempDir(), "victim")
		put(t, filepath.Dir(victim), "victim", []byte("precious"))
		if err := os.Symlink(victim, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		err := WriteRecord(dir, []byte("{}"))
		if herr := AppendHistory(dir, []byte("{}\n")); name == historyName && herr == nil {
			t.Error("the history is written through a link")
		}
		if b, rerr := os.ReadFile(victim); rerr != nil || string(b) != "precious" {
			t.Errorf("%s: the victim holds %q, %v", name, b, rerr)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTornLineOfTheHistoryCostsItselfAlone(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, historyName, []byte("{\"n\":1}\n{\"n\":2,\"to"))
	if err := AppendHistory(dir, []byte("{\"n\":3}\n")); err != nil {
		t.Fatal(err)
	}
	entries, err := ReadHistory(dir)
	if len(entries) != 2 || string(entries[1]) != `{"n":3}` || err == nil {
		t.Errorf("%q, %v", entries, err)
	}
}

func TestHistoryThatIsNoFileIsKeptAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, historyName), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadHistory(dir); err == nil || !strings.Contains(err.Error(), historyName+badSuffix) {
		t.Errorf("%v", err)
	}
	if err := AppendHistory(dir, []byte("{}\n")); err != nil {
		t.Error(err)
	}
}

// A pipe must not be read as an empty history.
func TestAPipeIsNoHistory(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, historyName), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := AppendHistory(dir, []byte("{}\n")); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("append: %v", err)
	}
	if _, err := ReadHistory(dir); err == nil || !strings.Contains(err.Error(), historyName+badSuffix) {
		t.Errorf("read: %v", err)
	}
}
