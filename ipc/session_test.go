package ipc

import (
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSessionStateIsPackedWithEveryField(t *testing.T) {
	want := &SessionState{}
	fill(reflect.ValueOf(want).Elem(), "s", 1)
	p, err := PackSession(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnpackSession(p)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-packed +unpacked:\n%s", d)
	}
	for cut := range len(p) {
		if _, err := UnpackSession(p[:cut]); err == nil {
			t.Fatalf("the first %d of %d bytes are a state", cut, len(p))
		}
	}
}

func TestSessionStateOfAnotherVersionIsRefused(t *testing.T) {
	p, err := Pack(&SessionState{Version: SessionVersion + 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := UnpackSession(Secret(p)); !errors.Is(err, errSessionVersion) {
		t.Errorf("error %v", err)
	}
}
