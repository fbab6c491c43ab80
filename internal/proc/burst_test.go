package proc

import (
	"testing"
	"time"
)

func TestMemoryIsGivenBackOnceABurstIsOver(t *testing.T) {
	var due []func()
	freed := make(chan struct{}, 1)
	b := Burst{
		After: func(_ time.Duration, f func()) { due = append(due, f) },
		Free:  func() { freed <- struct{}{} },
	}
	next := func() {
		f := due[0]
		due = due[1:]
		f()
	}
	for range burstSize {
		b.Note()
	}
	next()
	b.Note() // the burst goes on
	next()
	if len(freed) != 0 {
		t.Fatal("freed while clients arrive")
	}
	next()
	select {
	case <-freed:
	case <-time.After(10 * time.Second):
		t.Fatal("not freed after the burst")
	}
	if len(due) != 0 {
		t.Error("a timer runs while nothing happens")
	}
	b.Note()
	next()
	next()
	if len(due) != 0 || len(freed) != 0 {
		t.Error("a single client counts as a burst")
	}
}
