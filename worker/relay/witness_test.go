package relay

import (
	"encoding/binary"
	"strings"
	"testing"
)

// witnessRow is the answer of a server; "NULL" is NULL.
func witnessRow(columns ...string) (row []byte) {
	row = binary.BigEndian.AppendUint16(nil, uint16(len(columns)))
	for _, c := range columns {
		if c == "NULL" {
			row = append(row, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		row = append(binary.BigEndian.AppendUint32(row, uint32(len(c))), c...)
	}
	return row
}

func TestWitnessMarksWhatNoTextShowed(t *testing.T) {
	k := keeping{sets: []Assignment{{Name: "work_mem", SQL: "x"}, {Name: characteristicsName}}}
	whole := witnessRow("NULL", "work_mem,"+strings.Repeat("x", 2000))
	for name, c := range map[string]struct {
		row  []byte
		want string
	}{
		"nothing":       {witnessRow("NULL", "NULL"), ""},
		"known":         {witnessRow("NULL", "work_mem,datestyle,default_transaction_deferrable"), ""},
		"a lock":        {witnessRow("an advisory lock", "work_mem"), "an advisory lock, which no statement of the client showed"},
		"a setting":     {witnessRow("NULL", "work_mem,app.x"), "a value of app.x that no statement of the client showed"},
		"too many":      {whole[:1024], markManySet},
		"no row":        {nil, markNotSeen},
		"a failure":     {witnessRow("NULL", "NULL"), markNotSeen},
		"not two":       {witnessRow("NULL"), markManySet},
		"half a length": {whole[:7], markManySet},
	} {
		kept := Kept{keep: k}
		if kept.Witnessed(c.row, name != "a failure"); kept.keep.mark != c.want {
			t.Errorf("%s: the mark is %q, want %q", name, kept.keep.mark, c.want)
		}
	}
}

func TestWitnessIsAskedOnceUntilTheClientDoesSomething(t *testing.T) {
	asks := func(k *Kept) bool { return k.Witness() != nil }
	k := &Kept{keep: keeping{reader: NewKnowing(nil)}}
	if asks(k) {
		t.Error("asked before the client has done anything")
	}
	k.keep.ready(&owed{kind: 'Q'}, false, 'I')
	if !asks(k) || asks(k) {
		t.Error("not asked once")
	}
	k.keep.ready(&owed{kind: 'S'}, true, 'I')
	k.keep.mark = "something"
	if asks(k) {
		t.Error("asked about a session that is marked")
	}
	k = &Kept{keep: keeping{reader: Trusting{}, unseen: true}}
	if asks(k) {
		t.Error("asked although the texts are trusted")
	}
}
